"""Addresses: what is one, what is none, and which cannot be had."""

from __future__ import annotations

import pytest

from secure_fair.errors import TransportError
from secure_fair.transport import tls
from tests.transport.channels import Pki


@pytest.mark.parametrize("address", ["host", "host:", ":7400", "host:99999", "::1:7400", "a b:1", "[host]:1", "h:-1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(TransportError, match="write it as host:port"):
        tls.parse_address(address)


def test_addresses() -> None:
    assert tls.parse_address("auditor.example:7400") == ("auditor.example", 7400)
    assert tls.parse_address("[::1]:0") == ("::1", 0)


def test_a_port_in_use_and_a_foreign_address(pki: Pki) -> None:
    with tls.listen("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match=rf"127\.0\.0\.1 port {port}: another program uses this port; stop it"):
            tls.listen(f"127.0.0.1:{port}")
    with pytest.raises(TransportError, match=r"203\.0\.113\.9 port 7400: .*this machine"):
        tls.listen("203.0.113.9:7400")
