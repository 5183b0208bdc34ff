"""Secure ORTH against the float64 plaintext, and its messages against the formula of its docstring."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from secure_fair.errors import ProtocolError
from secure_fair.fairness import objectives
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode
from secure_fair.mpc.protocols import orthogonality
from secure_fair.mpc.protocols.orthogonality import LARGEST, OrthogonalityShape
from secure_fair.transport.wire import HEADER
from tests.mpc.three_threads import Meter, Network, Traffic

SHAPES = [
    OrthogonalityShape(n, d, k, classes)
    for n in (1, 7, 64)
    for d in (16, 192, 768)
    for k in (2, 3, 5)
    for classes in (0, 2, 3)
]
JOINED = OrthogonalityShape(20, 16, 5, 2)  # two attributes, of two and three groups


@dataclass
class Step:
    """One step's inputs (of width d - 1: the protocol's last column is 1), what was opened, and both sides' traffic."""

    centred: torch.Tensor
    onehot: torch.Tensor
    labels: torch.Tensor | None
    opened: torch.Tensor
    developer: Traffic
    auditor: Traffic


def one_hot(n: int, k: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.randint(0, k, (n,)), k)


def inputs(shape: OrthogonalityShape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    labels = torch.randint(0, shape.classes, (shape.n,)) if shape.classes else None
    h = torch.randn(shape.n, shape.d - 1, dtype=torch.float64)
    centred = objectives.centre(objectives.normalise(h), labels)
    groups = (2, 3) if shape == JOINED else (shape.k,)
    return centred, torch.cat([one_hot(shape.n, k) for k in groups], dim=1), labels


@pytest.fixture(scope="module")
def steps(network: Network) -> dict[OrthogonalityShape, Step]:
    """All shapes in one session."""
    torch.manual_seed(0)
    shapes = [*SHAPES, JOINED]
    given = {shape: inputs(shape) for shape in shapes}

    def developer(party: Party) -> list[tuple[torch.Tensor, Traffic]]:
        meter, results = Meter(party.peer), []
        for shape, (centred, _, labels) in given.items():
            classes = None if labels is None else torch.nn.functional.one_hot(labels, shape.classes)
            ring = encode(objectives.with_bias(centred))
            opened = orthogonality.DeveloperStep(party, shape, classes).send(ring).finish()
            results.append((opened, meter.lap()))
        return results

    def auditor(party: Party) -> list[Traffic]:
        meter, results = Meter(party.peer), []
        for shape, (_, onehot, _) in given.items():
            orthogonality.auditor_step(party, shape, onehot)
            results.append(meter.lap())
        return results

    outcome = network.run(Plan(tuple((shape.program(), 1) for shape in shapes)), developer, auditor)
    assert [name for name, _ in outcome.disclosed] == [orthogonality.OPENED] * len(shapes)
    assert all(torch.equal(told, got) for (_, told), (got, _) in zip(outcome.disclosed, outcome.developer, strict=True))
    return {
        shape: Step(*given[shape], opened, sent, theirs)
        for shape, (opened, sent), theirs in zip(shapes, outcome.developer, outcome.auditor, strict=True)
    }


@pytest.mark.parametrize("shape", [*SHAPES, JOINED], ids=lambda s: f"n{s.n}-d{s.d}-k{s.k}-c{s.classes}")
def test_gradient_equals_plaintext(steps: dict[OrthogonalityShape, Step], shape: OrthogonalityShape) -> None:
    """The ring is exact, so the only error is the rounding of H: 2^-17 for each record of one's groups."""
    step = steps[shape]
    in_ring = objectives.orth_gradient_sum_scale(encode(step.centred), step.onehot, step.labels)
    in_ring[:, -1] *= 1 << FRACTION_BITS  # the column of ones has fractional bits as well
    assert torch.equal(step.opened, in_ring)

    plain = objectives.orth_gradient_sum_scale(step.centred, step.onehot, step.labels)
    together = step.onehot.double() @ step.onehot.double().T  # [n, n]: attributes that two records share
    if step.labels is not None:
        together *= step.labels[:, None] == step.labels
    bound = together.sum(dim=1, keepdim=True) * 2.0**-17  # n_g 2^-17
    assert bool(((decode(step.opened, FRACTION_BITS) - plain).abs() <= bound + 1e-12).all())


@pytest.mark.parametrize("shape", [*SHAPES, JOINED], ids=lambda s: f"n{s.n}-d{s.d}-k{s.k}-c{s.classes}")
def test_messages_are_those_of_the_docstring(steps: dict[OrthogonalityShape, Step], shape: OrthogonalityShape) -> None:
    n, d, k, c = shape.n, shape.d, shape.k, shape.classes
    if c == 0:
        sent, received, frames = n * d + d * k, n * k + n * d, 2
    else:
        sent = n * d + n * c + d * c * k + n * c * k
        received, frames = n * k + n * c * k + d * c * k + n * d, 3
    step = steps[shape]
    messages = 3 if c else 2
    assert step.developer == Traffic(rounds=2, messages=messages, bytes=4 * sent + messages * HEADER.size)
    assert step.auditor.messages == frames
    assert step.auditor.bytes == 4 * received + frames * HEADER.size


def test_objective_follows_from_what_is_opened(steps: dict[OrthogonalityShape, Step]) -> None:
    """Value and gradient of the loss need nothing but G: they equal autograd's on the plaintext."""
    step = steps[OrthogonalityShape(64, 192, 3, 2)]
    h = step.centred.clone().requires_grad_()
    loss = objectives.orth_value(h, step.onehot, step.labels)
    loss.backward()
    value, gradient = objectives.orth_from_sums(step.centred, decode(step.opened, FRACTION_BITS), step.labels)
    assert h.grad is not None
    assert step.labels is not None
    smallest = int(step.labels.bincount().min())
    # ||u_i||_1 <= sqrt d, and the sum over a class of n_g / n_c^2 is at most 1
    assert abs(float(value - loss.detach())) <= 2 * 192**0.5 * 2.0**-17
    assert float((gradient - h.grad).abs().max()) <= 2 / smallest * 2.0**-17  # 2 n_g / n_c^2


def test_a_step_that_32_bits_cannot_hold_is_refused() -> None:
    OrthogonalityShape(LARGEST - 1, 16, 3)
    with pytest.raises(ProtocolError, match=f"lower training.batch_size below {LARGEST // 2}"):
        OrthogonalityShape(LARGEST // 2, 16, 5)


def test_the_largest_sums_fit(network: Network) -> None:
    """All of a group at one entry, as far from the others as a centred row can be, and all records in it."""
    shape = OrthogonalityShape(LARGEST - 1, 1, 2)
    h = encode(torch.full((shape.n, 1), -2.0, dtype=torch.float64))
    onehot = torch.tensor([[1, 0]]).expand(shape.n, 2)

    def developer(party: Party) -> torch.Tensor:
        return orthogonality.DeveloperStep(party, shape, None).send(h).finish()

    plan = Plan(((shape.program(), 1),))
    outcome = network.run(plan, developer, lambda party: orthogonality.auditor_step(party, shape, onehot))
    assert outcome.developer.unique().tolist() == [-2 * (LARGEST - 1) << FRACTION_BITS]
