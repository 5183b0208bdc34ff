"""One step of an adversary whose weights stay secret-shared, and its gradient opened to the developer.

X [n, D] is known to the developer: d features (row norms at most 1), then unit coordinates for the biases, 16
fractional bits. w [D, J] is shared with 24 fractional bits. t [n, J] are the auditor's 0/1 targets. With step size
eta, weight decay lambda, and r = (eta / n) (sigmoid(X w) - t), which carries the public factor so that no product needs
another scaling; e = r for ADV, and (eta / n) z p (1 - p) for ENT:

0. dev -> aud: w_dev^        aud -> dev: w_aud^
1. dev -> aud: X^                           [z] = [X w]
2. dev -> aud: his phase                    one round for odd functions of z (`sigmoid.py`)
3. aud -> dev: his phase, r_aud^            for ENT two phases, and e_aud^
4. dev -> aud: r_dev^, for ENT e_dev^       and his share of x + m
5. aud -> dev: his share of G = [e] [w]^T (first d columns), opened, and of x + m
   where x = eta lambda w 2^s + X^T r, and w <- w - (x >> s) with the dealt truncation mask m.

Step 0 needs no X, so it runs during the forward pass: of three rounds two are waited for. What else can be computed
is computed while messages travel. Bytes: about one copy of X one way and, at 4 bytes a number, one of G the other.

Logits are needed modulo 2^47 only, for the phase. So 6 bytes of each number of X^ go in step 1; the others matter to
X^T r alone, and travel behind the phase, while step 3 is on its way.

G opens without its lower 32 bits: the auditor sends the upper half of each number of its share, and the developer is
off by one unit of 2^32 at most. It sees a part of what the whole share would show.

The truncation (`truncation.py`) is less than one unit of 2^-24 off and right on average; it never fails grossly.

Range (protocols.md section 1): ||x|| = sqrt 2 and |sigmoid - t| <= 1 give ||w|| <= sqrt(2) / lambda, hence
|z| <= 2 / lambda <= 56. The bounds on the scales below follow from the same, |z p (1 - p)| <= 0.224 for ENT included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from secure_fair.errors import ProtocolError
from secure_fair.mpc.dealing.correlations import SineShare
from secure_fair.mpc.dealing.plan import OPERATIONS, Mask, Product, StepProgram, Truncation
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.compat import ArithmeticSharedTensor
from secure_fair.mpc.engine.opening import open_words
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import truncation
from secure_fair.mpc.protocols.product import auditor_share, developer_share
from secure_fair.mpc.protocols.sigmoid import PHASE_BITS, PHASE_BYTES, RANGE, Odd, masked_phase, scaled, sine_tuple

OPENED = {False: "adversary gradient times step size", True: "entropy gradient times step size"}
WEIGHT_BITS = 24
KEPT_BITS = 32  # of r w^T, not opened
LOGIT_BYTES = -(-(PHASE_BITS + WEIGHT_BITS) // 8)  # of X^, that logits modulo the period need


@dataclass(frozen=True)
class AdversaryShape:
    """Records n, features d and biases of x, logit columns J, step size eta, weight decay lambda; entropy: ENT."""

    n: int
    d: int
    j: int
    rate: float
    decay: float
    biases: int = 1
    entropy: bool = False

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
        """Fractional bits of the opened r w^T, whose lower bits stay shared."""
        return self.residual_bits + WEIGHT_BITS - KEPT_BITS

    @property
    def shift(self) -> int:
        """From the scale of U^T r to that of w."""
        return FRACTION_BITS + self.residual_bits - WEIGHT_BITS

    @property
    def decay_factor(self) -> int:
        """eta lambda in the fixed point that brings w to the scale of U^T r."""
        return round(self.rate * self.decay * 2.0**self.shift)

    @property
    def width(self) -> int:
        """D: columns of x and rows of w."""
        return self.d + self.biases

    @property
    def functions(self) -> tuple[Odd, ...]:
        """The functions of z that a step needs."""
        return (Odd.SIGMOID, Odd.ENTROPY) if self.entropy else (Odd.SIGMOID,)

    def program(self) -> StepProgram:
        """What the dealer deals for one step."""
        n, width, j = self.n, self.width, self.j
        slope = "e" if self.entropy else "r"
        rows = dict.fromkeys(("r", slope), (n, j))
        return StepProgram(
            name=f"{'entropy' if self.entropy else 'adversary'} n={n} d={self.d}+{self.biases} j={j}",
            masks={
                "x": Mask("developer", (n, width)),
                "w": Mask("developer", (width, j)),
                "w'": Mask("auditor", (width, j)),
                **{name: Mask("developer", shape) for name, shape in rows.items()},
                **{f"{name}'": Mask("auditor", shape) for name, shape in rows.items()},
            },
            products={
                "logits": Product("x", "w'", "matmul"),
                "update": Product("x", "r'", "transposed_left"),
                "gradient own": Product(slope, "w'", "transposed_right"),
                "gradient other": Product("w", f"{slope}'", "swapped_transposed"),
            },
            sines={function.value: sine_tuple((n, j), function) for function in self.functions},
            truncations={"update": Truncation((width, j), self.shift)},
        )


class DeveloperStep:
    """The developer's side: made before the forward pass, which gives the weights time to cross and the dealt numbers
    time to be expanded; `send` after it, and `finish` waits for the gradient and updates the share of w."""

    def __init__(self, party: Party, shape: AdversaryShape, w: ArithmeticSharedTensor) -> None:
        """w: this party's share, int64 [D, J]."""
        self._party, self._shape, self._w = party, shape, w.share
        self._step = party.source.next(shape.program().name)
        party.send(Kind.MASKED, self._step.mask("w").hide(self._w))

    def send(self, x: torch.Tensor) -> Self:
        """x: int64 [n, D], the biases' columns 0 or 2^16."""
        self._x = x
        masked = self._step.mask("x").hide(x).unsqueeze(-1).view(torch.uint8)  # [n, D, 8], little-endian
        lower, self._upper = masked.split([LOGIT_BYTES, 8 - LOGIT_BYTES], dim=-1)
        self._party.send(Kind.MASKED, lower)
        return self

    def finish(self) -> tuple[torch.Tensor, ArithmeticSharedTensor]:
        """(e w^T as int64 [n, d] with `gradient_bits` fractional bits, the new share of w)."""
        party, shape, step, x, w = self._party, self._shape, self._step, self._x, self._w
        (w_masked,) = party.receive(Kind.MASKED, w.shape)
        z = OPERATIONS["matmul"](x, w) + developer_share(step, "logits", w_masked)  # [n, J], while X^ travels
        sines = _dealt(shape, step)
        phases = _phases(z, sines)
        party.send(Kind.MASKED, *phases)
        party.send(Kind.MASKED, self._upper)
        rows = _rows(phases, _receive_phases(party, shape), sines, shape)
        rows_masked = party.receive(Kind.MASKED, *[(shape.n, shape.j)] * len(rows))
        party.send(Kind.MASKED, *(step.mask(name).hide(value) for name, value in rows.items()))

        dealt = step.truncation("update")
        update = shape.decay_factor * w + OPERATIONS["transposed_left"](x, rows["r"])  # [D, J]
        masked = truncation.masked("developer", update + developer_share(step, "update", rows_masked[0]), dealt)
        party.send(Kind.MASKED, masked)
        slope = rows.get("e", rows["r"])
        gradient = slope @ w.T + developer_share(step, "gradient own", w_masked)  # [n, D]
        gradient += developer_share(step, "gradient other", rows_masked[-1])
        opened = open_words(party, OPENED[shape.entropy], _upper(gradient, shape) + 1, shape.gradient_bits)
        assert opened is not None  # noqa: S101 (we are the developer)
        (theirs,) = party.receive(Kind.MASKED, w.shape)
        return opened.long(), from_share(w - truncation.truncated("developer", masked, theirs, dealt, shape.shift))


def auditor_step(
    party: Party, shape: AdversaryShape, t: torch.Tensor, w: ArithmeticSharedTensor
) -> ArithmeticSharedTensor:
    """The auditor's side of one step; t: int64 targets [n, J]. Returns the new share of w."""
    step, share = party.source.next(shape.program().name), w.share
    party.send(Kind.MASKED, step.mask("w'").hide(share))
    (w_masked,) = party.receive(Kind.MASKED, share.shape)
    x_masked = torch.zeros(shape.n, shape.width, 8, dtype=torch.uint8)
    (x_masked[..., :LOGIT_BYTES],) = party.receive(Kind.MASKED, (*x_masked.shape[:2], LOGIT_BYTES), dtype=torch.uint8)
    sines = _dealt(shape, step)
    phases = _phases(auditor_share(step, "logits", _numbers(x_masked), share), sines)
    party.send(Kind.MASKED, *phases)

    rows = _rows(phases, _receive_phases(party, shape), sines, shape)
    # sigmoid - t = (sigmoid - 1/2) - (t - 1/2), and t is ours
    rows["r"] = rows["r"] - (2 * t - 1) * round(shape.rate / shape.n * 2.0 ** (shape.residual_bits - 1))
    party.send(Kind.MASKED, *(step.mask(f"{name}'").hide(value) for name, value in rows.items()))

    slope = rows.get("e", rows["r"])
    gradient = slope @ share.T + auditor_share(step, "gradient other", w_masked, slope)  # [n, D]
    (x_masked[..., LOGIT_BYTES:],) = party.receive(
        Kind.MASKED, (*x_masked.shape[:2], 8 - LOGIT_BYTES), dtype=torch.uint8
    )
    dealt = step.truncation("update")
    update = shape.decay_factor * share + auditor_share(step, "update", _numbers(x_masked), rows["r"])
    masked = truncation.masked("auditor", update, dealt)

    rows_masked = party.receive(Kind.MASKED, *[(shape.n, shape.j)] * len(rows))
    gradient += auditor_share(step, "gradient own", rows_masked[-1], share)
    open_words(party, OPENED[shape.entropy], _upper(gradient, shape))
    party.send(Kind.MASKED, masked)
    (theirs,) = party.receive(Kind.MASKED, share.shape)
    return from_share(share - truncation.truncated("auditor", masked, theirs, dealt, shape.shift))


def _numbers(parts: torch.Tensor) -> torch.Tensor:
    """int64 [n, D] from bytes [n, D, 8]."""
    return parts.view(torch.int64).squeeze(-1)


def _upper(gradient: torch.Tensor, shape: AdversaryShape) -> torch.Tensor:
    """Of a share [n, D], what is opened: the upper bits [n, d], int32."""
    return (gradient[:, : shape.d] >> KEPT_BITS).to(torch.int32)


def _dealt(shape: AdversaryShape, step: StepRandomness) -> list[SineShare]:
    return [step.sine(function.value) for function in shape.functions]


def _phases(z: torch.Tensor, dealt: list[SineShare]) -> list[torch.Tensor]:
    """This party's masked phase of its share of z [n, J], once for each function: uint8."""
    return [masked_phase(z, FRACTION_BITS + WEIGHT_BITS, sine) for sine in dealt]


def _receive_phases(party: Party, shape: AdversaryShape) -> list[torch.Tensor]:
    shapes = [(shape.n, shape.j, PHASE_BYTES)] * len(shape.functions)
    return party.receive(Kind.MASKED, *shapes, dtype=torch.uint8)


def _rows(
    ours: list[torch.Tensor], theirs: list[torch.Tensor], dealt: list[SineShare], shape: AdversaryShape
) -> dict[str, torch.Tensor]:
    """This party's share of r, without the targets, and of ENT's e: int64 [n, J] each."""
    rate = shape.rate / shape.n
    shares = [scaled(*one, rate, shape.residual_bits) for one in zip(ours, theirs, dealt, strict=True)]
    return dict(zip(("r", "e"), shares, strict=False))
