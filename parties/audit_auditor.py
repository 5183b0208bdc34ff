"""The auditor's process in an audit: its table stays masked, and its policy decides which counts leave, and how."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from parties.audit_messages import (
    EXACT,
    HASH_BYTES,
    OPENED,
    AuditAccepted,
    AuditDebited,
    AuditHello,
    AuditTerms,
    id_key,
    require_list,
)
from parties.handshake import MAX_RECORDS, check_settings, fresh_nonce
from parties.journal import Journal
from parties.links import Links
from parties.messages import MAX_HELLO_BYTES, PROTOCOL_VERSION
from parties.service import Guest, serve
from secure_fair.audit.attributes import AuditTable, Rows, read_audit_table
from secure_fair.audit.columns import Ids
from secure_fair.audit.release import AuditPlan, noised, threshold_scale
from secure_fair.audit.suppression import require_size, shown
from secure_fair.errors import ProtocolError, RefusedError, SettingsError
from secure_fair.files import write_json
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.opening import open_to_auditor, open_words
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.counts import CountShape, auditor_counts
from secure_fair.privacy.accountant import UNBOUNDED_COST, gaussian_cost
from secure_fair.privacy.ledger import Ledger, request_digest
from secure_fair.privacy.policy import Policy
from secure_fair.settings import Settings
from secure_fair.transport.frames import Connection

MAX_REPORT_BYTES = 1 << 24


def run_audit_auditor(settings: Settings, policy: Policy, ledger_path: Path, out: Path, *, forever: bool) -> None:
    """Serve one audit, or one after another. Raises what ended it; the developer has been told by then."""
    require_list(settings)
    if settings.attributes.file is None or not settings.attributes.columns:
        raise SettingsError("attributes.file and attributes.columns are both needed by the auditor")
    require_size(tables_of(settings.attributes.columns, policy))
    terms_of(settings.attributes.columns, policy).require_size()
    table = read_audit_table(settings.attributes.file, settings.attributes.columns, policy)
    by_person = policy.person is not None
    Ledger(ledger_path, by_person).close()  # what is wrong with it is said before anybody comes

    def session(links: Links, guests: dict[str, Guest], journal: Journal) -> None:
        # Opened for each audit: a failure interrupts in the middle of anything, and closing it takes that back.
        with Ledger(ledger_path, by_person) as ledger:
            audit = _Audit(settings, policy, table, ledger, links, guests["developer"])
            audit.agree()
            journal("audit accepted", mode=policy.audits, records=audit.hello.records)
            audit.serve()
        journal("counts released")
        developer = guests["developer"].connection
        if policy.audit_to == "both":
            report = developer.receive(Kind.REPORT, max_size=MAX_REPORT_BYTES)
            try:
                write_json(out / "audit.json", json.loads(bytes(report)))
            except (ValueError, RecursionError):
                raise ProtocolError("the developer's report is not JSON; update the developer") from None
        developer.receive(Kind.END, size=0)

    serve("auditor", settings.network, out, ("developer",), session, forever=forever)


@dataclass(repr=False)
class _Audit:
    """One audit, step by step."""

    settings: Settings
    policy: Policy
    table: AuditTable
    ledger: Ledger
    links: Links
    guest: Guest
    committed: bool = False

    @property
    def developer(self) -> Connection:
        return self.guest.connection

    def agree(self) -> None:
        """The handshake of audit_messages.py; whatever is refused here depends on ids and public facts only."""
        columns, privacy = self.settings.attributes.columns, self.settings.privacy
        within = self.settings.network.start_timeout_seconds
        payload = self.developer.receive(Kind.HELLO, max_size=MAX_HELLO_BYTES, within=within)
        self.hello = AuditHello.decode(bytes(payload), self.developer.peer)
        self._decide()
        terms = self.terms = terms_of(columns, self.policy)
        self.developer.send(Kind.HELLO, terms.encode())
        self.dealer = self.links.connect("dealer")  # now: what follows may take longer than the dealer waits
        key = id_key(self.hello.nonce, terms.nonce)
        hashes = self.developer.receive(Kind.RECORDS, size=HASH_BYTES * self.hello.records)
        self.rows: Rows = self.table.rows(np.frombuffer(hashes, dtype="<u8"), key)
        self.plan = AuditPlan(self.hello.layout, terms.groups, self.hello.records, self.table.per_person(self.rows))
        self.cost = UNBOUNDED_COST if self.exact else gaussian_cost(privacy.epsilon, privacy.delta)
        self.plan.require_range(0.0 if self.exact else self.plan.scale(self.cost))
        self.id_set = self.ids.digest()
        if self.exact and self.id_set not in self.policy.audit_sets:
            raise RefusedError(
                f"exact audits are for frozen sets of records; this one is {self.id_set}, and the policy's audit_sets "
                "does not name it (`secure-fair audit freeze`)"
            )
        self.lost = self._lost()
        if self.lost is None:
            self.people = self.ledger.people(self.table.people(self.rows))
            self.ledger.check(self.people, self.cost, self.policy.budget, kind=self.kind, exact=self.most)
        accepted = AuditAccepted(PROTOCOL_VERSION, self.plan.per_person, self.lost is not None)
        self.developer.send(Kind.HELLO, accepted.encode())

    def _decide(self) -> None:
        """Whether the policy allows an audit by this developer at all."""
        self.policy.require_release("audit")
        if self.policy.developers:
            self.policy.require_developer(self.guest.fingerprint)
        check_settings(self.settings.audit_digest(), self.hello.settings)
        if not 0 < self.hello.records <= MAX_RECORDS:
            raise ProtocolError("the developer asked for an audit whose numbers make no sense; update the developer")
        if self.hello.records > len(self.table.ids):  # said before their hashes take memory
            raise RefusedError(
                f"the developer's {self.hello.records} records are more than the auditor's table has; audit records "
                "that both know"
            )
        if self.hello.records < self.policy.min_group:
            raise RefusedError(
                f"no count of {self.hello.records} records can reach the auditor's min_group, "
                f"{self.policy.min_group}; audit more of them"
            )
        _ = self.hello.layout

    @property
    def exact(self) -> bool:
        return self.policy.audits == EXACT

    @property
    def most(self) -> int | None:
        """Exact audits of one set of records."""
        return self.policy.max_audits if self.exact else None

    @property
    def kind(self) -> str:
        """In the ledger: exact audits are counted by their set of records."""
        return f"audit exact {self.id_set[-16:]}" if self.exact else "audit"

    @property
    def ids(self) -> Ids:
        """Of the records, in ascending order (the developer's)."""
        return self.table.ids.take(self.rows)

    def serve(self) -> None:
        """The protocol; counts are debited, noised or chosen, stored, and only then sent."""
        shape = CountShape(self.hello.records, self.plan.groups, self.plan.layout.combine)
        source = CorrelationSource("auditor", self.dealer, Plan(()) if self.lost else shape.plan())
        party = Party("auditor", self.developer, source)
        self._send(party, self.lost or self._count(party, shape, source.session))
        source.close()

    def _count(self, party: Party, shape: CountShape, session: str) -> bytes:
        """The answer: computed, debited, committed to, noised or chosen, and stored."""
        columns = self.settings.attributes.columns
        groups = [self.table.groups(column, self.rows) for column in columns]
        product = auditor_counts(party, shape, one_hots(groups, self.plan.groups, shape.block))
        sizes = [np.bincount(codes, minlength=k)[1:] for codes, k in zip(groups, self.plan.groups, strict=True)]
        none = torch.zeros(shape.opened[1], dtype=torch.int64)
        share = shape.complete(product, torch.from_numpy(np.concatenate(sizes)), none)

        def produce() -> bytes:
            commitment = self.table.commitment(self.ledger.derived_key("audit commitment"), columns, self.rows)
            if not self.exact:
                return self._answer(commitment, b"", noised(share.numpy(), self.plan.scale(self.cost)))
            self._commit(commitment)  # now: the developer opens nothing to us before
            visible = self._visible(party, share)
            return self._answer(commitment, visible.astype(np.uint8).tobytes(), share.numpy()[visible])

        request, budget = self._request(session), self.policy.budget
        return self.ledger.answer(self.kind, request, self.people, self.cost, budget, produce, exact=self.most)

    def _visible(self, party: Party, share: torch.Tensor) -> np.ndarray:
        """Of an exact audit, the cells that are large enough under the noise of both parties.

        The developer has noised what we see, and does not know our noise: neither of us reads a count off the test.
        """
        seen = open_to_auditor(party, share)
        assert seen is not None  # noqa: S101 (we are the auditor)
        layout = self.plan.layout
        tested = noised(seen.numpy(), threshold_scale(self.policy.min_group) * layout.largest).astype(np.float64)
        columns = self.settings.attributes.columns
        tables = tables_of(columns, self.policy)
        return shown(layout.people(tested), tables, self.policy.min_group)

    def _answer(self, commitment: str, bits: bytes, share: np.ndarray) -> bytes:
        """What is stored and sent: the commitment, for an exact audit which counts are open, our share of them."""
        return b"\n".join((commitment.encode(), bits + np.ascontiguousarray(share, dtype="<i4").tobytes()))

    def _send(self, party: Party, answer: bytes) -> None:
        commitment, _, rest = answer.partition(b"\n")
        self._commit(commitment.decode())
        size = int(np.prod(self.plan.shape)) if self.exact else 0
        self.developer.send(Kind.HELLO, rest[:size])
        share = torch.frombuffer(bytearray(rest[size:]), dtype=torch.int32) if len(rest) > size else torch.empty(0)
        open_words(party, OPENED, share.to(torch.int32))

    def _commit(self, commitment: str) -> None:
        """Bind ourselves, once, in front of a developer who has been debited."""
        if not self.committed:
            self.developer.send(Kind.HELLO, AuditDebited(PROTOCOL_VERSION, commitment).encode())
            self.committed = True

    def _request(self, session: str) -> bytes:
        return request_digest(
            {
                "release": self.kind,
                "session": session,
                "ids": self.id_set,
                "asked": asdict(replace(self.hello, nonce="", earlier="")),
                "terms": asdict(replace(self.terms, nonce="")),
                "per_person": self.plan.per_person,
            }
        )

    def _lost(self) -> bytes | None:
        """The stored answer of the session that the developer names, if it was to the same question.

        It is about the table as it was then, commitment included: whether there is one depends on no attribute.
        """
        return self.ledger.stored(self._request(self.hello.earlier)) if self.hello.earlier else None


def terms_of(columns: Sequence[str], policy: Policy) -> AuditTerms:
    """What the policy says to whoever asks, with a fresh nonce."""
    categories = policy.categories_of(columns)
    return AuditTerms(
        PROTOCOL_VERSION,
        fresh_nonce(),
        policy.audits,
        policy.min_group,
        policy.audit_to == "both",
        tuple(map(len, categories)),
        tuple(name for names in categories for name in names),
    )


def tables_of(columns: Sequence[str], policy: Policy) -> list[tuple[str, ...]]:
    """Each attribute or intersection with its groups' names."""
    return [(column, *names) for column, names in zip(columns, policy.categories_of(columns), strict=True)]


def one_hots(groups: list[np.ndarray], sizes: tuple[int, ...], block: int) -> Iterator[torch.Tensor]:
    """T in blocks: one-hot columns of every group but the first of each attribute, int32 [n, G]."""
    for start in range(0, len(groups[0]), block):
        parts = [codes[start : start + block, None] == np.arange(1, k) for codes, k in zip(groups, sizes, strict=True)]
        yield torch.from_numpy(np.concatenate(parts, axis=1).astype(np.int32))
