"""The auditor's process: serves a run within its own policy; it never learns anything, and decides what leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from parties.audited import Audited
from parties.continuation import CHECKPOINTS_FOLDER
from parties.gradients import serve_gradient
from parties.handshake import (
    AgreedRun,
    auditor_answer,
    auditor_answer_psi,
    auditor_receive_hello,
    check_settings,
    fresh_nonce,
)
from parties.intersection import require_package
from parties.journal import Journal
from parties.links import Links
from parties.messages import PROTOCOL_VERSION, AuditorHello, DeveloperHello, encode_count
from parties.moments import moment_plan, releases
from parties.service import Guest, serve
from secure_fair.data.attributes import AttributeTable, read_attributes
from secure_fair.errors import ProtocolError, RefusedError, SettingsError
from secure_fair.fairness import methods
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, auditor_moment, auditor_open, joined
from secure_fair.privacy.accountant import UNIT, gaussian_cost
from secure_fair.privacy.ledger import Ledger, request_digest
from secure_fair.privacy.policy import Policy
from secure_fair.releases.moment import MomentPlan, attribute_columns, noised
from secure_fair.releases.randomized_response import respond
from secure_fair.settings import Settings
from secure_fair.transport.frames import Connection


def run_auditor(settings: Settings, policy: Policy, ledger_path: Path, out: Path, *, forever: bool) -> None:
    """Serve one run, or one after another. Raises what ended it; the developer has been told by then."""
    if settings.attributes.alignment == "psi":
        require_package()
    table = _read_table(settings, policy)
    ids = tuple(sorted(table.ids))
    by_person = policy.person is not None
    Ledger(ledger_path, by_person).close()  # what is wrong with it is said before anybody comes

    def session(links: Links, guests: dict[str, Guest], journal: Journal) -> None:
        developer = guests["developer"]
        # Opened for each run: a failure interrupts in the middle of anything, and closing it takes that back.
        with Ledger(ledger_path, by_person) as ledger:
            audited = Audited(
                settings, policy, table, ids, ledger, journal, developer.fingerprint, out / CHECKPOINTS_FOLDER
            )
            _run(audited, developer.connection, links)

    serve("auditor", settings.network, out, ("developer",), session, forever=forever)


def _run(audited: Audited, developer: Connection, links: Links) -> None:
    """One run, from the developer's request to its end."""
    policy, start_timeout = audited.policy, audited.settings.network.start_timeout_seconds
    hello = auditor_receive_hello(developer, start_timeout, sum(audited.groups()))
    _decide(audited, hello)
    answer = AuditorHello(
        PROTOCOL_VERSION, fresh_nonce(), len(audited.ids), audited.groups(), policy.person is not None
    )
    run = _agree(audited, developer, hello, answer)
    audited = replace(audited, ids=run.ids)
    people = set(audited.persons([audited.ids[position] for position in run.train]))
    developer.send(Kind.HELLO, encode_count(len(people)))
    audited.log("run accepted", method=hello.method, release=hello.release, records=run.hello.train)
    _SERVE[hello.release](audited, run, developer, links)


def _agree(audited: Audited, developer: Connection, hello: DeveloperHello, answer: AuditorHello) -> AgreedRun:
    """Accept the run, and find the records that it is about."""
    if audited.settings.attributes.alignment == "list":
        return auditor_answer(developer, hello, answer, audited.ids)

    def decide(common: int) -> None:
        audited.log("records intersected", developer=hello.train, auditor=len(audited.ids), common=common)
        audited.policy.require_intersection(common)

    return auditor_answer_psi(developer, hello, answer, audited.ids, decide)


def _read_table(settings: Settings, policy: Policy) -> AttributeTable:
    if settings.attributes.file is None or not settings.attributes.columns:
        raise SettingsError("attributes.file and attributes.columns are both needed by the auditor")
    policy.categories_of(settings.attributes.columns)
    return read_attributes(settings.attributes.file, settings.attributes.columns, policy.categories, policy.person)


def _decide(audited: Audited, hello: DeveloperHello) -> None:
    """Whether the policy allows this kind of run at all; depends on the request's public facts only."""
    method = methods.METHODS.get(hello.method)
    if method is None:
        raise RefusedError(f"method {hello.method!r} is not known to the auditor; use one release on both sides")
    if hello.release not in method.releases or hello.release not in _SERVE:
        raise RefusedError(f"method {hello.method} has no release {hello.release!r} that an auditor serves")
    audited.policy.require_release(hello.release)
    if audited.policy.developers:
        audited.policy.require_developer(audited.developer)
    check_settings(audited.settings.shared_digest(hello.method, hello.release), hello.settings)


def _serve_moment(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Moments with discrete Gaussian noise, each debited and stored before it leaves."""
    hello, settings, policy = run.hello, audited.settings, audited.policy
    if hello.releases != releases(settings):
        raise RefusedError(f"the run asks for {hello.releases} moments, the settings agreed on {releases(settings)}")
    if not 0 <= hello.first < hello.releases:
        raise ProtocolError(f"the developer asks for moment {hello.first} of {hello.releases}; update the developer")
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
        # All that gives a moment its shape, scale and noise: with another, stored bytes would mean something else.
        facts = {"settings": hello.settings, "plan": asdict(plans[index]), "ids": ids, "columns": audited.categories()}
        return request_digest({"release": "moment", "session": session, "index": index, **facts})

    first = hello.first
    lost = audited.ledger.stored(request(hello.earlier, first)) if hello.earlier else None
    developer.send(Kind.HELLO, encode_count(int(lost is not None)))
    if lost is not None:
        links.where = f"moment {first + 1} of {hello.releases}"
        # The same bytes under the same noise, and not recomputed: whoever sees them twice has learned nothing new.
        share = torch.frombuffer(bytearray(lost), dtype=torch.int64).reshape(plans[first].shape)
        auditor_open(Party("auditor", developer, None), share)
        audited.log("moment sent once more", session=hello.earlier)
        first += 1
    if first == hello.releases:
        developer.receive(Kind.END, size=0)
        return
    people = audited.ledger.people(persons)
    audited.ledger.check(people, sum((cost for _ in plans[first + 1 :]), start=cost), policy.budget)
    columns = torch.from_numpy(attribute_columns(audited.one_hots(ids), persons if weighted else None))
    shapes = [MomentShape(p.dimension, p.columns, p.classes, hello.train) for p in plans[first:]]
    source = CorrelationSource("auditor", links.connect("dealer"), joined(shapes))
    for index, (plan, shape) in enumerate(zip(plans[first:], shapes, strict=True), start=first):
        links.where = f"moment {index + 1} of {hello.releases}"
        own = request(source.session, index)

        def add_noise(share: torch.Tensor, plan: MomentPlan = plan, request: bytes = own) -> torch.Tensor:
            # Debited, then noised, then stored, and only then handed back to be sent.
            answer = audited.ledger.answer(
                "moment", request, people, cost, policy.budget, lambda: noised(share.numpy(), plan, cost).tobytes()
            )
            return torch.frombuffer(bytearray(answer), dtype=torch.int64).reshape(share.shape)

        auditor_moment(Party("auditor", developer, source), shape, columns.split(shape.block), add_noise)
        audited.log("moment released", index=index, shape=str(plan.shape), rho=round(cost.rho / UNIT, 9))
    source.close()
    developer.receive(Kind.END, size=0)


def _serve_randomized_response(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
    """Each record's attribute once, flipped by chance; needs no dealer."""
    ids = [audited.ids[position] for position in run.train]
    epsilon = audited.settings.privacy.epsilon
    categories = audited.categories()
    request = request_digest({"release": "randomized-response", "ids": ids, "columns": categories, "epsilon": epsilon})
    codes = {
        column: onehot.argmax(axis=1).astype(np.int64)
        for column, onehot in zip(audited.columns, audited.one_hots(ids), strict=True)
    }
    persons = audited.persons(ids)
    answer = respond(audited.ledger, audited.policy.budget, request, persons, codes, dict(categories), epsilon)
    developer.send(Kind.OPEN, answer)
    audited.log("randomized response released", records=len(ids), epsilon=epsilon)
    developer.receive(Kind.END, size=0)


def _serve_by(reference: str) -> Callable[[Audited, AgreedRun, Connection, Links], None]:
    """A server in a module that loads a model: named, not imported, so that other releases run without."""

    def serve(audited: Audited, run: AgreedRun, developer: Connection, links: Links) -> None:
        methods.factory(reference)(audited, run, developer, links)

    return serve


_SERVE: dict[str, Callable[[Audited, AgreedRun, Connection, Links], None]] = {
    "gradient": serve_gradient,
    "moment": _serve_moment,
    "randomized-response": _serve_randomized_response,
    "adapter": _serve_by("parties.sensitive:serve_adapter"),
    "predictor": _serve_by("parties.sensitive:serve_predictor"),
    "adapter-gradient": _serve_by("parties.sensitive:serve_overlap"),
}
