"""Addresses: what is one, and what is none."""

from __future__ import annotations

import pytest

from secure_fair.errors import TransportError
from secure_fair.transport import tls


@pytest.mark.parametrize("address", ["host", "host:", ":7400", "host:99999", "::1:7400", "a b:1", "[host]:1", "h:-1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(TransportError, match="write it as host:port"):
        tls.parse_address(address)


def test_addresses() -> None:
    assert tls.parse_address("auditor.example:7400") == ("auditor.example", 7400)
    assert tls.parse_address("[::1]:0") == ("::1", 0)
