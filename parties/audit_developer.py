"""The developer's process in an audit: its predictions stay masked; it gets the counts that the policy opens."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parties.audit_kept import SHARE_FILE, Kept
from parties.audit_messages import (
    EXACT,
    MAX_TERMS_BYTES,
    OPENED,
    AuditAccepted,
    AuditDebited,
    AuditHello,
    AuditTerms,
    id_key,
    require_list,
)
from parties.handshake import fresh_nonce
from parties.links import Links, opened
from parties.messages import MAX_HELLO_BYTES, PROTOCOL_VERSION
from secure_fair.audit.predictions import Predictions, read_predictions
from secure_fair.audit.release import AuditPlan, consistent, noised, threshold_scale
from secure_fair.audit.result import Opened
from secure_fair.audit.suppression import complement, require_size, shown
from secure_fair.audit.write import audit_json, shared_json
from secure_fair.errors import ProtocolError, RefusedError, SettingsError
from secure_fair.files import write_json
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.opening import open_to_auditor, open_words
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.counts import CountShape, developer_counts
from secure_fair.privacy.accountant import gaussian_cost
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.settings import Settings
from secure_fair.transport.frames import Connection


def run_audit_developer(settings: Settings, out: Path) -> dict[str, Any]:
    """Audit `audit.predictions` and write OUT/audit.json, which is returned. Raises what ended it; the peers are told.

    An OUT whose audit lost its answer on the way asks for the same answer once more, at no cost.
    """
    began = time.perf_counter()
    require_list(settings)
    if not settings.attributes.columns:
        raise SettingsError("attributes.columns is empty; name the attributes to audit, as the auditor does")
    predictions = read_predictions(settings.audit)
    out.mkdir(parents=True, exist_ok=True)
    with opened(settings.network) as links, DisclosureLog(out, "audit", store=settings.privacy.store_values) as log:
        audit = _Audit(settings, predictions, out, links)
        audit.agree()

        def record(name: str, value: torch.Tensor, unit: float) -> None:
            log.add(0, name, value.numpy(), np.arange(len(predictions)), unit=unit, epsilon=audit.epsilon)

        result, cost = audit.run(record)
        report = audit_json(
            settings,
            predictions,
            result,
            _tables(settings, audit.terms),
            audit.facts(),
            cost,
            time.perf_counter() - began,
        )
        if audit.terms.to_both:
            audit.share(report, result)
        audit.end()
    write_json(out / "audit.json", report)
    (out / SHARE_FILE).unlink(missing_ok=True)
    return report


class _Audit:
    """One audit, step by step."""

    def __init__(self, settings: Settings, predictions: Predictions, out: Path, links: Links) -> None:
        self._settings, self._predictions, self._out, self._links = settings, predictions, out, links
        self._lost = Kept.load(out)
        self._salt = secrets.token_bytes(32) if self._lost is None else self._lost.salt
        self._auditor: Connection = links.connect("auditor")

    def agree(self) -> None:
        """The handshake of audit_messages.py. Raises RefusedError when our own policy forbids it."""
        layout = self._predictions.layout
        hello = AuditHello(
            protocol=PROTOCOL_VERSION,
            nonce=fresh_nonce(),
            settings=self._settings.audit_digest(),
            records=len(self._predictions),
            classes=layout.classes,
            bins=layout.bins,
            bits=layout.bits,
            predictions=self._predictions.digest(self._salt),
            earlier="" if self._lost is None else self._lost.session,
        )
        self._auditor.send(Kind.HELLO, hello.encode())
        self._dealer = self._links.connect("dealer")  # now: what follows may take longer than the dealer waits
        self.terms = AuditTerms.decode(self._hello(MAX_TERMS_BYTES), "auditor")
        check_terms(self._settings, self.terms)
        hashes = self._predictions.ids.keyed(id_key(hello.nonce, self.terms.nonce))
        self._auditor.send(Kind.RECORDS, memoryview(hashes).cast("B"))
        self.accepted = AuditAccepted.decode(self._hello(), "auditor")
        self.plan = AuditPlan(layout, self.terms.groups, len(self._predictions), self.accepted.per_person)

    @property
    def exact(self) -> bool:
        return self.terms.mode == EXACT

    @property
    def scale(self) -> float:
        """Of the noise in the counts."""
        privacy = self._settings.privacy
        return 0.0 if self.exact else self.plan.scale(gaussian_cost(privacy.epsilon, privacy.delta))

    @property
    def epsilon(self) -> float | None:
        return None if self.exact else self._settings.privacy.epsilon

    def run(self, record: Any) -> tuple[Opened, dict[str, Any]]:
        """The protocol: what was opened, and what it cost."""
        began = time.perf_counter()
        rounds = self._auditor.rounds
        layout = self._predictions.layout
        shape = CountShape(len(self._predictions), self.terms.groups, layout.combine)
        lost = self._lost if self.accepted.stored else None
        self._source = CorrelationSource("developer", self._dealer, Plan(()) if lost else shape.plan())
        party = Party("developer", self._auditor, self._source, record)
        if lost:
            share = lost.share
        else:
            product = developer_counts(party, shape, self._predictions.columns(shape.block))
            totals = torch.from_numpy(self._predictions.totals)
            share = shape.complete(product, torch.zeros(shape.kept, dtype=torch.int64), totals)
            kept = replace(self._lost or Kept("", self._salt, share), session=self._source.session, share=share)
            kept.save(self._out)
        counted = time.perf_counter()
        self._commitment = self._committed()
        if self.exact and not lost:
            # The auditor tests its threshold on this; what it must not read in it is hidden by noise of ours.
            open_to_auditor(party, share + self._noise(kept))
        bits = self._auditor.receive(Kind.HELLO, size=share.numel() if self.exact else 0)
        answered = time.perf_counter()
        result = self._opened(party, share, np.frombuffer(bits, dtype=np.uint8).astype(bool))
        cost = {
            "mpc_seconds": time.perf_counter() - answered + counted - began,
            "ledger_seconds": answered - counted,  # the auditor debits and stores
            "rounds": self._auditor.rounds - rounds,
            "bytes_sent": self._auditor.bytes_sent,  # of the whole channel: ids too
            "bytes_received": self._auditor.bytes_received,
            "floor_bytes": shape.floor_bytes,
            "offline_bytes": self._source.offline_bytes,
            "rows": len(self._predictions),
        }
        return result, cost

    def _noise(self, kept: Kept) -> torch.Tensor:
        """Ours of an exact audit, int32 as the counts: stored before the auditor sees it, and one for all attempts."""
        public = {**asdict(replace(self.terms, nonce="")), "commitment": self._commitment}
        table = [asdict(self._predictions.layout), self._predictions.digest(self._salt)]
        asked = json.dumps([public, table], sort_keys=True)
        seen = hashlib.sha256(asked.encode()).hexdigest()
        if kept.seen and kept.seen != seen:
            raise RefusedError(
                "an exact audit broke off when the auditor had seen its counts under noise of ours, and since then the "
                "predictions, the auditor's table or its policy have changed: take another --out if it may see both"
            )
        if not kept.seen:
            scale = threshold_scale(self._settings.audit.smallest_cell) * self._predictions.layout.largest
            none = np.zeros(tuple(kept.share.shape), dtype=np.int32)
            kept.noise, kept.seen = torch.from_numpy(noised(none, scale)), seen
            kept.save(self._out)
        return kept.noise

    def _committed(self) -> str:
        """What the auditor has bound itself to. Raises RefusedError if it is not the table of `audit.commitment`."""
        commitment = AuditDebited.decode(self._hello(), "auditor").commitment
        if self._settings.audit.commitment not in (None, commitment):
            raise RefusedError(
                "the auditor's table is not the one that audit.commitment names, or the records, attributes or "
                "categories are others; ask the auditor what it changed"
            )
        return commitment

    def _opened(self, party: Party, share: torch.Tensor, visible: np.ndarray) -> Opened:
        """visible: of an exact audit, which counts are open."""
        totals = self._predictions.totals.astype(np.float64)
        tables = _tables(self._settings, self.terms)
        if self.exact:
            visible = visible.reshape(tuple(share.shape))
            counts = np.zeros(share.shape)
            value = open_words(party, OPENED, share[torch.from_numpy(visible)])
            assert value is not None  # noqa: S101 (we are the developer)
            counts[visible] = value.numpy()
            return Opened(counts, visible, totals, 0.0)
        value = open_words(party, OPENED, share)
        assert value is not None  # noqa: S101 (we are the developer)
        counts = consistent(value.numpy().astype(np.float64), totals, self.terms.groups)
        return Opened(counts, shown(self.plan.layout.people(counts), tables, self.terms.smallest), totals, self.scale)

    def facts(self) -> dict[str, Any]:
        """What the report says about privacy."""
        privacy = self._settings.privacy
        return {
            "mode": self.terms.mode,
            "epsilon": self.epsilon,
            "delta": None if self.exact else privacy.delta,
            "noise_scale": self.scale,
            "records_per_person": self.accepted.per_person,
            "min_group": self.terms.smallest,
            "commitment": self._commitment,
            "predictions": self._predictions.digest(self._salt),
            "shared_with_auditor": self.terms.to_both,
        }

    def share(self, report: Mapping[str, Any], result: Opened) -> None:
        """Send the auditor what our own policy lets it see."""
        smallest = self._settings.audit.smallest_cell
        # The auditor knows its own noise: a count is large enough only if it would be without the noise, too.
        people = self.plan.layout.people(result.counts)
        enough = result.shown & (people >= smallest + 4 * result.scale / self.plan.layout.largest)
        visible = complement(enough, people, _tables(self._settings, self.terms))
        payload = shared_json(
            self._settings, self._predictions, result, visible, _tables(self._settings, self.terms), report
        )
        self._auditor.send(Kind.REPORT, payload)

    def end(self) -> None:
        """Tell both peers that all is done."""
        self._auditor.send(Kind.END)
        self._source.close()

    def _hello(self, most: int = MAX_HELLO_BYTES) -> bytes:
        return bytes(self._auditor.receive(Kind.HELLO, max_size=most))


def check_terms(settings: Settings, terms: AuditTerms) -> None:
    """Our own policy: categories fixed before, consent to share, a test that our noise does not decide.

    Raises RefusedError. How many people are in a group nobody can check here: what protects them from the auditor is
    our noise and `smallest_cell`.
    """
    columns, audit = settings.attributes.columns, settings.audit
    if len(terms.groups) != len(columns) or min(terms.groups) < 2 or sum(terms.groups) != len(terms.names):
        raise ProtocolError("the auditor's answer does not fit attributes.columns; compare both settings files")
    require_size(_tables(settings, terms))
    if terms.mode == EXACT and audit.smallest_cell > terms.smallest:
        raise RefusedError(
            f"audit.smallest_cell is {audit.smallest_cell}, and the auditor's min_group {terms.smallest}: our noise "
            f"would drown its test of which counts it opens; set audit.smallest_cell to {terms.smallest} or less"
        )
    for column, *names in _tables(settings, terms):
        fixed = audit.categories.get(column)
        if fixed is not None and tuple(names) != fixed:
            raise RefusedError(
                f"the auditor's categories of {column} are {', '.join(names)[:200]}, and not those of "
                "audit.categories; agree with the auditor on them"
            )
    if terms.to_both and not audit.share_result:
        raise RefusedError("the auditor wants the result too; set audit.share_result if it may have it")


def _tables(settings: Settings, terms: AuditTerms) -> list[tuple[str, ...]]:
    """Each attribute or intersection with its groups' names."""
    names = iter(terms.names)
    return [
        (column, *(next(names) for _ in range(k)))
        for column, k in zip(settings.attributes.columns, terms.groups, strict=True)
    ]
