"""Our protocols on the cases: developer, auditor and dealer as processes, TLS over loopback."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import processes
from benchmarks.primitives.cases import CLASSES, LOGIT_RANGE, Case, Floats
from secure_fair.mpc.dealing.correlations import correction_elements
from secure_fair.mpc.dealing.plan import Plan, StepProgram
from secure_fair.mpc.dealing.source import StepRandomness
from secure_fair.mpc.engine.opening import open_to_developer
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import RingGenerator
from secure_fair.mpc.engine.sharing import FRACTION_BITS, decode, encode, from_share
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols import adversary, moment, orthogonality, sigmoid
from secure_fair.mpc.protocols.adversary import WEIGHT_BITS, AdversaryShape
from secure_fair.mpc.protocols.moment import MomentShape
from secure_fair.mpc.protocols.orthogonality import OrthogonalityShape

SYSTEM = "secure-fair"
WARM_UP = 3
OUT_BITS = 36  # fractional bits of a sigmoid alone
Repetition = Callable[[], torch.Tensor | None]  # the opened result, at the developer; in the reals


def measure(cases: Sequence[Case]) -> list[tuple[dict[str, Any], Floats]]:
    """A row in the peers' form, and the result, of each case; all in one session."""
    plan = Plan(tuple((program(case), case.repetitions + WARM_UP) for case in cases))
    job = functools.partial(_measure_all, tuple(cases))
    measured: list[tuple[dict[str, Any], Floats]] = processes.run(plan, {"developer": job, "auditor": job})[
        "developer"
    ].result
    return measured


def program(case: Case) -> StepProgram:
    """What the dealer deals for one repetition."""
    if case.op == "adv":
        return _adversary(case).program()
    if case.op == "product":
        return _moment(case).program(case.n)
    if case.op == "sigmoid":
        return StepProgram("sigmoid", sines={"sigmoid": sigmoid.sine_tuple((case.n,))})
    return _orthogonality(case).program()


def _adversary(case: Case) -> AdversaryShape:
    return AdversaryShape(case.n, case.d, 1, case.rate, case.decay)


def _orthogonality(case: Case) -> OrthogonalityShape:
    return OrthogonalityShape(case.n, case.d + 1, case.k, CLASSES if case.op == "orth-odds" else 0)


def _moment(case: Case) -> MomentShape:
    return MomentShape(case.d, case.k, 1, case.n, case.n)


def _measure_all(cases: Sequence[Case], party: Party) -> list[tuple[dict[str, Any], Floats | None]]:
    """Runs in each party's process."""
    return [_measure(case, party) for case in cases]


def _measure(case: Case, party: Party) -> tuple[dict[str, Any], Floats | None]:
    """The developer's clock covers its encoding and decoding too."""
    inputs = {name: torch.from_numpy(value) for name, value in case.inputs().items()}
    repetition = _PROGRAMS[case.op](case, party, inputs)
    for _ in range(WARM_UP):
        repetition()
    peer, ms = party.peer, []
    before = (peer.rounds, peer.bytes_sent, peer.bytes_received)
    for _ in range(case.repetitions):
        began = time.perf_counter()
        result = repetition()
        ms.append(1000 * (time.perf_counter() - began))
    spent = np.subtract((peer.rounds, peer.bytes_sent, peer.bytes_received), before) / case.repetitions
    rounds, sent, received = (float(value) for value in spent)
    if case.op == "sigmoid":
        assert result is not None  # noqa: S101 (both sides hold a share)
        result = open_to_developer(party, "sigmoid", from_share(result), OUT_BITS)
        result = None if result is None else decode(result, OUT_BITS) + 0.5
    counted = {"rounds": rounds, "bytes_sent": sent, "bytes_received": received}
    offline = 8 * correction_elements(program(case))
    return {"variant": None, "ms": ms, **counted, "offline_bytes": offline}, None if result is None else result.numpy()


def _adv(case: Case, party: Party, inputs: dict[str, torch.Tensor]) -> Repetition:
    shape = _adversary(case)
    share = RingGenerator(bytes(32)).ring((case.d + 1, 1))  # of weights that both hold, as after earlier steps
    w = from_share(share if party.is_developer else encode(inputs["w"], WEIGHT_BITS) - share)
    targets = inputs["t"].long()

    def repetition() -> torch.Tensor | None:
        if not party.is_developer:
            adversary.auditor_step(party, shape, targets, w)
            return None
        opened, _ = adversary.DeveloperStep(party, shape, w).send(encode(inputs["u"])).finish()
        return decode(opened, shape.gradient_bits) * (case.n / case.rate)

    return repetition


def _orth(case: Case, party: Party, inputs: dict[str, torch.Tensor]) -> Repetition:
    shape, onehot = _orthogonality(case), inputs["t"].long()
    classes = inputs["y"].long() if "y" in inputs else None

    def repetition() -> torch.Tensor | None:
        if not party.is_developer:
            orthogonality.auditor_step(party, shape, onehot)
            return None
        opened = orthogonality.DeveloperStep(party, shape, classes).send(encode(inputs["h"])).finish()
        return decode(opened, FRACTION_BITS)

    return repetition


def _product(case: Case, party: Party, inputs: dict[str, torch.Tensor]) -> Repetition:
    shape, onehot = _moment(case), inputs["t"].long()

    def repetition() -> torch.Tensor | None:
        if not party.is_developer:
            moment.auditor_moment(party, shape, [onehot], lambda share: share)
            return None
        opened = moment.developer_moment(party, shape, [(encode(inputs["h"]), None)], lambda _: None)
        return decode(opened, FRACTION_BITS)

    return repetition


def _sigmoid(case: Case, party: Party, inputs: dict[str, torch.Tensor]) -> Repetition:
    assert LOGIT_RANGE <= sigmoid.RANGE  # noqa: S101
    bits = FRACTION_BITS + WEIGHT_BITS  # as the adversary's logits have them
    share = RingGenerator(bytes(32)).ring((case.n,))
    x = share if party.is_developer else encode(inputs["x"], bits) - share

    def repetition() -> torch.Tensor:
        step: StepRandomness = party.source.next("sigmoid")
        dealt = step.sine("sigmoid")
        ours = sigmoid.masked_phase(x, bits, dealt)
        party.send(Kind.MASKED, ours)
        (theirs,) = party.receive(Kind.MASKED, ours.shape, dtype=torch.uint8)
        return sigmoid.scaled(ours, theirs, dealt, 1.0, OUT_BITS)

    return repetition


_PROGRAMS: dict[str, Callable[[Case, Party, dict[str, torch.Tensor]], Repetition]] = {
    "adv": _adv,
    "orth-parity": _orth,
    "orth-odds": _orth,
    "product": _product,
    "sigmoid": _sigmoid,
}
