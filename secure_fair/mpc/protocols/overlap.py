"""The gradient of the adapters' overlap, other (other^T own) of each layer, opened to the developer (ORTH-ADAPTER).

H [d, r] of each layer are the developer's factors, T [d, r'] the auditor's, 18 fractional bits both; exact in Z_2^64.
A hat marks a masked value, [x] a sharing. All layers go together:

1. dev -> aud: H^ of all layers                2. aud -> dev: T^ of all (sent without waiting); now [M] = [H^T T]
3. dev -> aud: M_dev^ of all                   4. aud -> dev: his share of G = T [M]^T of all, opened

2 rounds. Bytes: 8 sum(d r + r r') one way, 8 sum(d r' + d r) the other. The auditor sees uniform ring elements only.
The developer learns G: with r >= r' its columns span the columns of T, the row space of the sensitive A, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from secure_fair.mpc.dealing.plan import Mask, Product, StepProgram
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import decode, encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.product import auditor_share, developer_share

OPENED = "adapter overlap gradient"
BITS = 18  # of each factor; G has three times as many, and 2^8 in front of them
OPENED_BITS = 3 * BITS


@dataclass(frozen=True)
class OverlapShape:
    """(d, r, r') of each layer."""

    layers: tuple[tuple[int, int, int], ...]

    @staticmethod
    def of(own: Sequence[torch.Tensor], rank: int) -> OverlapShape:
        """From the developer's factors [d, r], and the rank of the auditor's."""
        return OverlapShape(tuple((value.shape[0], value.shape[1], rank) for value in own))

    @property
    def numbers(self) -> int:
        """Elements of all G."""
        return sum(d * r for d, r, _ in self.layers)

    @property
    def floor_bytes(self) -> int:
        """Least bytes of a step, both ways together: H^, T^, the small M^, and G."""
        return 8 * sum(2 * d * r + d * other + r * other for d, r, other in self.layers)

    def program(self) -> StepProgram:
        """What the dealer deals for one step."""
        masks: dict[str, Mask] = {}
        products: dict[str, Product] = {}
        for i, (d, r, other) in enumerate(self.layers):
            masks |= {
                f"h{i}": Mask("developer", (d, r)),
                f"m{i}": Mask("developer", (r, other)),
                f"t{i}": Mask("auditor", (d, other)),
            }
            products[f"moment {i}"] = Product(f"h{i}", f"t{i}", "transposed_left")
            products[f"gradient {i}"] = Product(f"m{i}", f"t{i}", "swapped_transposed")
        sizes = " ".join(f"{d}x{r}x{other}" for d, r, other in self.layers)
        return StepProgram(f"overlap {sizes}", masks, products)


class DeveloperStep:
    """The developer's side: `begin` sends the masked factors, `finish` waits for the gradient."""

    def __init__(self, party: Party, shape: OverlapShape, own: Sequence[torch.Tensor]) -> None:
        """own: factors [d, r] of each layer, floating point."""
        self._party, self._shape = party, shape
        self._step = party.source.next(shape.program().name)
        party.send(Kind.MASKED, *(self._step.mask(f"h{i}").hide(encode(h, BITS)) for i, h in enumerate(own)))

    def finish(self) -> list[torch.Tensor]:
        """other (other^T own) of each layer, float64 [d, r]."""
        party, layers, step = self._party, self._shape.layers, self._step
        theirs = party.receive(Kind.MASKED, *((d, other) for d, _, other in layers))
        shares = [developer_share(step, f"moment {i}", t) for i, t in enumerate(theirs)]  # [r, r']
        party.send(Kind.MASKED, *(step.mask(f"m{i}").hide(m) for i, m in enumerate(shares)))
        parts = [developer_share(step, f"gradient {i}", t).reshape(-1) for i, t in enumerate(theirs)]
        opened = open_to_developer(party, OPENED, from_share(torch.cat(parts)), OPENED_BITS)
        assert opened is not None  # noqa: S101 (we are the developer)
        flat = decode(opened, OPENED_BITS).split([d * r for d, r, _ in layers])
        return [part.reshape(d, r) for part, (d, r, _) in zip(flat, layers, strict=True)]


def auditor_step(party: Party, shape: OverlapShape, other: Sequence[torch.Tensor]) -> None:
    """The auditor's side of one step; other: its factors [d, r'] of each layer, floating point."""
    step = party.source.next(shape.program().name)
    own = [encode(t, BITS) for t in other]
    party.send(Kind.MASKED, *(step.mask(f"t{i}").hide(t) for i, t in enumerate(own)))
    masked = party.receive(Kind.MASKED, *((d, r) for d, r, _ in shape.layers))
    shares = [auditor_share(step, f"moment {i}", h, t) for i, (h, t) in enumerate(zip(masked, own, strict=True))]
    moments = party.receive(Kind.MASKED, *((r, rank) for _, r, rank in shape.layers))
    parts = [
        (t @ m.T + auditor_share(step, f"gradient {i}", m_masked, t)).reshape(-1)
        for i, (t, m, m_masked) in enumerate(zip(own, shares, moments, strict=True))
    ]
    open_to_developer(party, OPENED, from_share(torch.cat(parts)))
