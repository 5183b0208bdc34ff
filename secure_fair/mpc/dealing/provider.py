"""Our dealer as a CrypTen tuple provider, in place of the one where party 0 makes the triples."""

from __future__ import annotations

from typing import Any

import torch

from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.dealing.tuples import TupleSpec
from secure_fair.mpc.engine.compat import ArithmeticSharedTensor, BinarySharedTensor, TupleProvider
from secure_fair.mpc.engine.randomness import RingGenerator


class DealerProvider(TupleProvider):  # type: ignore[misc]  # CrypTen carries no types
    """Asks the dealer for each tuple that a CrypTen operation outside the plan needs: one request, one answer."""

    NAME = "secure-fair dealer"

    def __init__(self, source: CorrelationSource) -> None:
        super().__init__()
        self._source = source

    def _request(self, spec: TupleSpec) -> tuple[torch.Tensor, ...]:
        size = spec.derived_size()

        def draw(generator: RingGenerator) -> Any:
            inputs = spec.draw(generator)

            def finish(correction: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
                derived = generator.ring(size) if correction is None else correction.reshape(size)
                return (*inputs, derived)

            return finish

        return self._source.request(spec.encode(), draw, size.numel())

    def generate_additive_triple(
        self, size0: torch.Size, size1: torch.Size, op: str, device: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        spec = TupleSpec("additive", (tuple(size0), tuple(size1)), op, tuple(sorted(kwargs.items())))
        return tuple(ArithmeticSharedTensor.from_shares(x, precision=0) for x in self._request(spec))

    def square(self, size: torch.Size, device: Any = None) -> tuple[Any, ...]:
        return tuple(
            ArithmeticSharedTensor.from_shares(x, precision=0)
            for x in self._request(TupleSpec("square", (tuple(size),)))
        )

    def generate_binary_triple(self, size0: torch.Size, size1: torch.Size, device: Any = None) -> tuple[Any, ...]:
        spec = TupleSpec("binary", (tuple(size0), tuple(size1)))
        return tuple(BinarySharedTensor.from_shares(x) for x in self._request(spec))

    def wrap_rng(self, size: torch.Size, device: Any = None) -> tuple[Any, ...]:
        return tuple(
            ArithmeticSharedTensor.from_shares(x, precision=0)
            for x in self._request(TupleSpec("wraps", (tuple(size),)))
        )

    def B2A_rng(self, size: torch.Size, device: Any = None) -> tuple[Any, ...]:  # noqa: N802 (CrypTen's name)
        bit, arithmetic = self._request(TupleSpec("bit", (tuple(size),)))
        return ArithmeticSharedTensor.from_shares(arithmetic, precision=0), BinarySharedTensor.from_shares(bit)
