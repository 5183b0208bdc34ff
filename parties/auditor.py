"""The auditor's process: serves a run within its own policy; it never learns anything, and decides what leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from parties.handshake import (
    AgreedRun,
    auditor_answer,
    auditor_receive_hello,
    check_settings,
    fresh_nonce,
)
from parties.links import Links, opened
from parties.messages import (
    PROTOCOL_VERSION,
    AuditorHello,
    DeveloperHello,
    decode_step,
    encode_count,
    step_size,
)
from parties.moments import moment_plan, releases
from parties.schedule import batch_sizes, training_plan
from secure_fair.data.attributes import AttributeTable, read_attributes
from secure_fair.errors import ProtocolError, RefusedError, SettingsError
from secure_fair.fairness import methods
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, auditor_open, joined
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.privacy.accountant import UNBOUNDED_COST, UNIT, gaussian_cost
from secure_fair.privacy.ledger import Ledger, request_digest
from secure_fair.privacy.policy import Policy
from secure_fair.releases.moment import MomentPlan, attribute_columns, noised
from secure_fair.releases.randomized_response import respond
from secure_fair.settings import Settings
from secure_fair.transport.frames import Connection

Log = Callable[[str], None]


@dataclass(repr=False)
class _Audited:
    """The auditor's table and rules for one run."""

    settings: Settings
    policy: Policy
    table: AttributeTable
    ids: tuple[str, ...]  # the agreed order
    ledger: Ledger
    log: Log

    @property
    def columns(self) -> tuple[str, ...]:
        return self.settings.attributes.columns

    def groups(self) -> tuple[int, ...]:
        """K of each requested attribute or intersection, from the policy."""
        return tuple(len(names) for names in self.policy.categories_of(self.columns))

    def one_hots(self, ids: Sequence[str]) -> list[np.ndarray]:
        """One-hot table [n, K] of each requested attribute or intersection."""
        return [self.table.one_hot(column, ids) for column in self.columns]

    def persons(self, ids: Sequence[str]) -> list[str]:
        return [self.table.persons[row] for row in self.table.rows(ids)]


def run_auditor(settings: Settings, policy: Policy, ledger_path: Path, log_file: Path | None) -> None:
    """Serve one run of a developer. Raises what ended it; the developer has been told by then."""

    def log(message: str) -> None:
        if log_file is not None:
            with log_file.open("a") as stream:
                stream.write(message + "\n")

    table = _read_table(settings, policy)
    with (
        Ledger(ledger_path, policy.person is not None) as ledger,
        opened(settings.network) as links,
        links.acceptor() as acceptor,
    ):
        audited = _Audited(settings, policy, table, tuple(sorted(table.ids)), ledger, log)
        (developer,) = links.accept(acceptor, "developer")
        hello = auditor_receive_hello(developer)
        _decide(audited, hello, settings.network.fingerprints["developer"])
        answer = AuditorHello(
            PROTOCOL_VERSION, fresh_nonce(), len(table.ids), audited.groups(), policy.person is not None
        )
        run = auditor_answer(developer, hello, answer, audited.ids)
        people = set(audited.persons([audited.ids[position] for position in run.train]))
        developer.send(Kind.HELLO, encode_count(len(people)))
        log(f"run accepted: method {hello.method}, release {hello.release}, {hello.train} records")
        _SERVE[hello.release](audited, run, developer, links)
        developer.receive(Kind.END, size=0)
        log("run ended")


def _read_table(settings: Settings, policy: Policy) -> AttributeTable:
    if settings.attributes.file is None or not settings.attributes.columns:
        raise SettingsError("attributes.file and attributes.columns are both needed by the auditor")
    policy.categories_of(settings.attributes.columns)
    return read_attributes(settings.attributes.file, settings.attributes.columns, policy.categories, policy.person)


def _decide(audited: _Audited, hello: DeveloperHello, fingerprint: str) -> None:
    """Whether the policy allows this kind of run at all; depends on the request's public facts only."""
    method = methods.get(hello.method)
    if hello.release not in method.releases or hello.release not in _SERVE:
        raise RefusedError(f"method {hello.method} has no release {hello.release!r} that an auditor serves")
    audited.policy.require_release(hello.release)
    if audited.policy.developers:
        audited.policy.require_developer(fingerprint)
    check_settings(audited.settings.shared_digest(hello.method, hello.release), hello.settings)


def _serve_gradient(audited: _Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Steps of ORTH or ADV whose exact gradient is opened: no guarantee, recorded as unbounded for everybody."""
    hello = run.hello
    secure: SecureMethod = methods.factory(methods.get(hello.method).secure[hello.release])()
    settings = _with_seed(audited.settings, hello.seed)
    public = PublicShape(hello.width, hello.classes, audited.groups())
    source = CorrelationSource("auditor", links.connect("dealer"), training_plan(secure, settings, public, hello))
    party = Party("auditor", developer, source)
    program = secure.auditor(settings, public)
    allowed = np.zeros(len(audited.ids), dtype=bool)
    allowed[run.train] = True
    ids = [audited.ids[position] for position in run.train]
    request = request_digest({"release": "gradient", "session": source.session, "ids": ids, "columns": audited.columns})
    budget = audited.policy.budget
    audited.ledger.reserve("gradient", request, audited.persons(ids), UNBOUNDED_COST, budget)
    onehot = torch.from_numpy(np.concatenate(audited.one_hots(audited.ids), axis=1))
    for step, n in enumerate(batch_sizes(hello)):
        announced, positions = decode_step(developer.receive(Kind.STEP, size=step_size(n)))
        _check_step(step, announced, positions, allowed)
        program.step(party, onehot[positions])
    source.close()


def _check_step(step: int, announced: int, positions: np.ndarray, allowed: np.ndarray) -> None:
    if announced != step:
        raise ProtocolError(f"the developer announced step {announced} where {step} follows")
    if (positions < 0).any() or (positions >= len(allowed)).any() or not allowed[positions].all():
        raise RefusedError(f"step {step} names a record outside the set fixed for this run; leave it out")
    if len(np.unique(positions)) < len(positions):
        raise RefusedError(f"step {step} names a record twice; send each id once")


def _serve_moment(audited: _Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Moments with discrete Gaussian noise, each debited and stored before it leaves."""
    hello, settings, policy = run.hello, audited.settings, audited.policy
    if hello.releases != releases(settings):
        raise RefusedError(f"the run asks for {hello.releases} moments, the settings agreed on {releases(settings)}")
    weighted = policy.person is not None
    groups = audited.groups()
    plans = [
        moment_plan(settings, groups, hello.classes, hello.features, weighted, index) for index in range(hello.releases)
    ]
    cost = gaussian_cost(settings.privacy.epsilon, settings.privacy.delta, hello.releases)
    ids = [audited.ids[position] for position in run.train]
    persons = audited.persons(ids)
    for plan in plans:
        plan.require_range(hello.train, cost)

    def request(session: str, index: int) -> bytes:
        return request_digest(
            {"release": "moment", "session": session, "index": index, "ids": ids, "columns": audited.columns}
        )

    lost = audited.ledger.stored(request(hello.earlier, 0)) if hello.earlier else None
    developer.send(Kind.HELLO, encode_count(int(lost is not None)))
    if lost is not None:
        # The same bytes under the same noise, and not recomputed: whoever sees them twice has learned nothing new.
        share = torch.frombuffer(bytearray(lost), dtype=torch.int64).reshape(plans[0].shape)
        auditor_open(Party("auditor", developer, None), share)
        audited.log(f"moment of session {hello.earlier} sent once more")
        return
    audited.ledger.check(persons, sum((cost for _ in plans[1:]), start=cost), policy.budget)
    columns = torch.from_numpy(attribute_columns(audited.one_hots(ids), persons if weighted else None))
    shapes = [MomentShape(p.dimension, p.columns, p.classes, hello.train, max(1, hello.block)) for p in plans]
    source = CorrelationSource("auditor", links.connect("dealer"), joined(shapes))
    for index, (plan, shape) in enumerate(zip(plans, shapes, strict=True)):
        own = request(source.session, index)

        def add_noise(share: torch.Tensor, plan: MomentPlan = plan, request: bytes = own) -> torch.Tensor:
            # Debited, then noised, then stored, and only then handed back to be sent.
            answer = audited.ledger.answer(
                "moment", request, persons, cost, policy.budget, lambda: noised(share.numpy(), plan, cost).tobytes()
            )
            return torch.frombuffer(bytearray(answer), dtype=torch.int64).reshape(share.shape)

        auditor_moment(Party("auditor", developer, source), shape, columns.split(shape.block), add_noise)
        audited.log(f"moment {index + 1} of {hello.releases} released: {plan.shape}, rho {cost.rho / UNIT:.3g}")
    source.close()


def _serve_randomized_response(audited: _Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Each record's attribute once, flipped by chance; needs no dealer."""
    ids = [audited.ids[position] for position in run.train]
    epsilon = audited.settings.privacy.epsilon
    request = request_digest(
        {"release": "randomized-response", "ids": ids, "columns": audited.columns, "epsilon": epsilon}
    )
    codes = {
        column: onehot.argmax(axis=1).astype(np.int64)
        for column, onehot in zip(audited.columns, audited.one_hots(ids), strict=True)
    }
    categories = dict(zip(audited.columns, audited.groups(), strict=True))
    persons = audited.persons(ids)
    answer = respond(audited.ledger, audited.policy.budget, request, persons, codes, categories, epsilon)
    developer.send(Kind.OPEN, answer)
    audited.log(f"randomized response released: {len(ids)} records, epsilon {epsilon:g}")


_SERVE: dict[str, Callable[[_Audited, AgreedRun, Connection, Links], None]] = {
    "gradient": _serve_gradient,
    "moment": _serve_moment,
    "randomized-response": _serve_randomized_response,
}


def _with_seed(settings: Settings, seed: int) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
