"""One step of a linear adversary whose weights stay secret-shared, and its gradient opened to the developer.

U [n, d+1] is known to the developer: normalised representations (norm 1) and a unit coordinate for the bias, 16
fractional bits. w [d+1, J] is shared with 24 fractional bits. t [n, J] are the auditor's 0/1 targets. With step size
eta, weight decay lambda, and r = (eta / n) (sigmoid(U w) - t), which carries the public factor so that no product needs
another scaling:

1. dev -> aud: U^, w_dev^                   [z] = [U w]
2. aud -> dev: w_aud^, his phase            sigmoid in one round (`sigmoid.py`); now [r]
3. dev -> aud: his phase, r_dev^
4. aud -> dev: r_aud^, his share of x + m, and his share of G = [r] [w]^T (first d columns), opened
5. dev -> aud: his share of x + m; nobody waits for it
   where x = eta lambda w 2^s + U^T r, and w <- w - (x >> s) with the dealt truncation mask m.

4 messages and one that is not waited for = 2 rounds. Bytes: about one copy of U one way and of G the other.

The truncation (`truncation.py`) is less than one unit of 2^-24 off and right on average; it never fails grossly.

Range (protocols.md section 1): ||u|| = sqrt 2 and |sigmoid - t| <= 1 give ||w|| <= sqrt(2) / lambda, hence
|z| <= 2 / lambda <= 56. The bounds on the scales below follow from the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.plan import OPERATIONS, Mask, Product, StepProgram, Truncation
from secure_fair.mpc.engine.compat import ArithmeticSharedTensor
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import truncation
from secure_fair.mpc.protocols.product import auditor_share, developer_share
from secure_fair.mpc.protocols.sigmoid import PHASE_BYTES, RANGE, masked_phase, scaled_sigmoid, sine_tuple

OPENED = "adversary gradient times step size"
WEIGHT_BITS = 24


@dataclass(frozen=True)
class AdversaryShape:
    """Records n, width d, logit columns J, step size eta and weight decay lambda."""

    n: int
    d: int
    j: int
    rate: float
    decay: float

    def __post_init__(self) -> None:
        if not (self.decay >= 2 / RANGE and 0 < self.rate * self.decay <= 1):  # NaN is refused too
            raise ProtocolError(
                f"adversary.weight_decay {self.decay} with learning rate {self.rate} lets logits leave the sigmoid's "
                f"range; keep weight_decay >= {2 / RANGE:.3f} and learning_rate * weight_decay <= 1"
            )

    @property
    def residual_bits(self) -> int:
        """Fractional bits of r: the most, up to 64, with |r w^T| 2^(bits + 24) < 2^62 and |x| < 2^61.

        A lower limit would cost precision at small step sizes: sigmoid's terms are weighted with eta / n at this scale.
        """
        gradient = math.log2(self.j * self.rate / self.n * math.sqrt(2) / self.decay)
        update = math.log2(self.rate * (1 + math.sqrt(2)))
        return min(64, math.floor(62 - WEIGHT_BITS - gradient), math.floor(61 - FRACTION_BITS - update))

    @property
    def gradient_bits(self) -> int:
        """Fractional bits of the opened r w^T."""
        return self.residual_bits + WEIGHT_BITS

    @property
    def shift(self) -> int:
        """From the scale of U^T r to that of w."""
        return FRACTION_BITS + self.residual_bits - WEIGHT_BITS

    @property
    def decay_factor(self) -> int:
        """eta lambda in the fixed point that brings w to the scale of U^T r."""
        return round(self.rate * self.decay * 2.0**self.shift)

    def program(self) -> StepProgram:
        """What the dealer deals for one step."""
        n, d1, j = self.n, self.d + 1, self.j
        return StepProgram(
            name=f"adversary n={n} d={self.d} j={j}",
            masks={
                "u": Mask("developer", (n, d1)),
                "w": Mask("developer", (d1, j)),
                "r": Mask("developer", (n, j)),
                "w'": Mask("auditor", (d1, j)),
                "r'": Mask("auditor", (n, j)),
            },
            products={
                "logits": Product("u", "w'", "matmul"),
                "update": Product("u", "r'", "transposed_left"),
                "gradient r w'": Product("r", "w'", "transposed_right"),
                "gradient w r'": Product("w", "r'", "swapped_transposed"),
            },
            sines={"sigmoid": sine_tuple((n, j))},
            truncations={"update": Truncation((d1, j), self.shift)},
        )


class DeveloperStep:
    """The developer's side: made before the forward pass, which gives the dealt numbers time to be expanded; `send`
    after it, and `finish` waits for the gradient and updates the share of w."""

    def __init__(self, party: Party, shape: AdversaryShape) -> None:
        self._party, self._shape = party, shape
        self._step = party.source.next(shape.program().name)

    def send(self, u: torch.Tensor, w: ArithmeticSharedTensor) -> Self:
        """u: int64 [n, d+1], last column 2^16; w: this party's share, int64 [d+1, J]."""
        self._u, self._w = u, w.share
        self._party.send(Kind.MASKED, self._step.mask("u").hide(u), self._step.mask("w").hide(self._w))
        return self

    def finish(self) -> tuple[torch.Tensor, ArithmeticSharedTensor]:
        """(r w^T as int64 [n, d] with `gradient_bits` fractional bits, the new share of w)."""
        party, shape, step, u, w = self._party, self._shape, self._step, self._u, self._w
        (w_masked,) = party.receive(Kind.MASKED, w.shape)
        (their_phase,) = party.receive(Kind.MASKED, (shape.n, shape.j, PHASE_BYTES), dtype=torch.uint8)
        z = OPERATIONS["matmul"](u, w) + developer_share(step, "logits", w_masked)  # [n, J]
        sine = step.sine("sigmoid")
        phase = masked_phase(z, FRACTION_BITS + WEIGHT_BITS, sine)
        r = scaled_sigmoid(phase, their_phase, sine, shape.rate / shape.n, shape.residual_bits)  # [n, J]
        party.send(Kind.MASKED, phase)
        party.send(Kind.MASKED, step.mask("r").hide(r))

        own = r @ w.T + developer_share(step, "gradient r w'", w_masked)  # [n, d+1], while the auditor computes
        x = shape.decay_factor * w + OPERATIONS["transposed_left"](u, r)  # [d+1, J]
        r_masked, their_x = party.receive(Kind.MASKED, (shape.n, shape.j), w.shape)
        gradient = own + developer_share(step, "gradient w r'", r_masked)
        opened = open_to_developer(party, OPENED, from_share(gradient[:, : shape.d].contiguous()), shape.gradient_bits)
        assert opened is not None  # noqa: S101 (we are the developer)

        dealt = step.truncation("update")
        masked_x = truncation.masked("developer", x + developer_share(step, "update", r_masked), dealt)
        party.send(Kind.MASKED, masked_x)
        return opened, from_share(w - truncation.truncated("developer", masked_x, their_x, dealt, shape.shift))


def auditor_step(
    party: Party, shape: AdversaryShape, t: torch.Tensor, w: ArithmeticSharedTensor
) -> ArithmeticSharedTensor:
    """The auditor's side of one step; t: int64 targets [n, J]. Returns the new share of w."""
    step, share = party.source.next(shape.program().name), w.share
    u_masked, w_masked = party.receive(Kind.MASKED, (shape.n, shape.d + 1), share.shape)
    sine = step.sine("sigmoid")
    phase = masked_phase(auditor_share(step, "logits", u_masked, share), FRACTION_BITS + WEIGHT_BITS, sine)
    party.send(Kind.MASKED, step.mask("w'").hide(share))
    party.send(Kind.MASKED, phase)

    (their_phase,) = party.receive(Kind.MASKED, (shape.n, shape.j, PHASE_BYTES), dtype=torch.uint8)
    rate = shape.rate / shape.n
    # sigmoid - t = (sigmoid - 1/2) - (t - 1/2), and t is ours
    centred_target = (2 * t - 1) * round(rate * 2.0 ** (shape.residual_bits - 1))
    r = scaled_sigmoid(phase, their_phase, sine, rate, shape.residual_bits) - centred_target  # [n, J]
    dealt = step.truncation("update")
    x = shape.decay_factor * share + auditor_share(step, "update", u_masked, r)
    masked_x = truncation.masked("auditor", x, dealt)
    party.send(Kind.MASKED, step.mask("r'").hide(r), masked_x)
    (r_masked,) = party.receive(Kind.MASKED, (shape.n, shape.j))
    gradient = (
        r @ share.T
        + auditor_share(step, "gradient r w'", r_masked, share)
        + auditor_share(step, "gradient w r'", w_masked, r)
    )
    open_to_developer(party, OPENED, from_share(gradient[:, : shape.d].contiguous()))

    (their_x,) = party.receive(Kind.MASKED, share.shape)
    return from_share(share - truncation.truncated("auditor", masked_x, their_x, dealt, shape.shift))
