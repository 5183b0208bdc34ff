"""The one place that configures CrypTen: our channel, our dealer, our randomness; then any CrypTen operation runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.provider import DealerProvider
from secure_fair.mpc.engine.communicator import ChannelCommunicator
from secure_fair.mpc.engine.compat import crypten
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import SEED_BYTES, RingGenerator, fresh_seed
from secure_fair.mpc.kinds import Kind

_CPU = torch.device("cpu")
_REFUSED = {
    "TFP": "in CrypTen's first-party provider party 0, the developer, makes the triples and so knows every mask",
    "TTP": "CrypTen's third party draws masks from a Mersenne Twister with a 64-bit seed and speaks unencrypted",
    "HE": "CrypTen does not implement it",
}


@contextmanager
def install(party: Party) -> Iterator[None]:
    """Let CrypTen's own operations (`MPCTensor` and all that it offers) run between our parties.

    One party a process. 1. the parties agree on seeds for zero sharings; 2. CrypTen's communicator, tuple provider and
    every place where it draws ring elements are replaced; 3. on leaving all is put back.
    """
    if ChannelCommunicator.is_initialized():
        raise ProtocolError("this process is a party already; run each party in a process of its own")
    mine = fresh_seed()
    party.peer.send(Kind.COLLECTIVE, mine)
    theirs = bytes(party.peer.receive(Kind.COLLECTIVE, size=SEED_BYTES))
    generators = {
        "prev": RingGenerator(theirs),
        "next": RingGenerator(mine),
        "local": RingGenerator(fresh_seed()),
        "global": RingGenerator(bytes(a ^ b for a, b in zip(mine, theirs, strict=True)), index=1),
    }
    saved: list[tuple[Any, str, Any]] = []

    def replace(holder: Any, name: str, value: Any) -> None:
        saved.append((holder, name, getattr(holder, name)))
        setattr(holder, name, value)

    try:
        ChannelCommunicator.instance = ChannelCommunicator(party)
        replace(crypten.communicator, "DistributedCommunicator", ChannelCommunicator)
        replace(crypten.cfg.mpc, "provider", DealerProvider.NAME)
        provider = _provider_for(DealerProvider(party.source))
        replace(crypten.mpc, "get_default_provider", provider)
        replace(crypten, "generators", {name: {_CPU: generator} for name, generator in generators.items()})
        primitives = crypten.mpc.primitives
        for module in (crypten.common.rng, primitives.arithmetic, primitives.binary):
            for name, draw in (("generate_random_ring_element", _ring), ("generate_kbit_random_tensor", _bits)):
                if hasattr(module, name):
                    replace(module, name, draw)
        yield
    finally:
        for holder, name, value in reversed(saved):
            setattr(holder, name, value)
        ChannelCommunicator.shutdown()


def _provider_for(provider: DealerProvider) -> Callable[[], DealerProvider]:
    """CrypTen asks for its provider before every tuple; another one, if configured, is refused with the reason."""

    def get_default_provider() -> DealerProvider:
        configured = crypten.cfg.mpc.provider
        if configured != DealerProvider.NAME:
            reason = _REFUSED.get(configured, "it is not known")
            raise ProtocolError(f"CrypTen's provider {configured} is refused: {reason}; use the dealer process")
        return provider

    return get_default_provider


def _ring(
    size: Sequence[int], ring_size: int = 2**64, generator: RingGenerator | None = None, **_: Any
) -> torch.Tensor:
    """Stands in for CrypTen's function of the same signature."""
    if ring_size != 2**64:
        raise ProtocolError("only the ring Z_2^64 is supported")
    return (generator or crypten.generators["local"][_CPU]).ring(tuple(size))


def _bits(
    size: Sequence[int], bitlength: int | None = None, generator: RingGenerator | None = None, **_: Any
) -> torch.Tensor:
    """Stands in for CrypTen's function of the same signature."""
    source = generator or crypten.generators["local"][_CPU]
    return source.ring(tuple(size)) if bitlength in (None, 64) else source.bits(tuple(size), int(bitlength))
