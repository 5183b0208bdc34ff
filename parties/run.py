"""A training that the auditor has accepted, as the developer sees it: peers, data and what was agreed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from parties.continuation import common_ids, keep_common, run_name
from parties.features import Features
from parties.handshake import AgreedRun, developer_hello, developer_hello_psi, fresh_nonce
from parties.intersection import require_package
from parties.links import Links
from parties.messages import PROTOCOL_VERSION, DeveloperHello, Positions
from parties.metering import Meter
from parties.moments import arrived, lost_session, releases
from secure_fair import checkpoint
from secure_fair.errors import ProtocolError, RunError, SettingsError
from secure_fair.fairness import methods
from secure_fair.model.classifier import FairClassifier
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.kinds import Kind
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.settings import Settings
from secure_fair.training.loop import CHECKPOINTS, Splits, description
from secure_fair.training.processes import ALONE, Processes

Progress = Callable[[str, int, int], None]


class Run:
    """A run that the auditor has accepted."""

    def __init__(
        self,
        settings: Settings,
        method: methods.Method,
        release: str,
        weight: float,
        out: Path,
        links: Links,
        log: DisclosureLog,
        model: FairClassifier,
        splits: Splits,
        progress: Progress,
        resume: bool,
        processes: Processes = ALONE,
    ) -> None:
        self.settings, self.method, self.weight, self.out, self.log = settings, method, weight, out, log
        self.model, self.splits, self.progress = model, splits, progress
        self.links, self.processes = links, processes
        self.dealt: CorrelationSource | None = None
        self._ended = False
        steps: tuple[int, ...] = ()
        if resume and release.startswith("adapter"):
            raise RunError(f"{out}: a run with release {release} cannot be resumed; start it again")
        if release == "predictor" and settings.model.weights == "random":
            raise SettingsError(
                'model.weights = "random": a predictor on another random backbone says nothing; load one'
            )
        if resume and release == "gradient":
            steps = checkpoint.steps(out / CHECKPOINTS, description(settings, method.name, weight))
        if psi := settings.attributes.alignment == "psi":
            require_package()
            processes.narrow()
        self.auditor = links.connect("auditor")
        # Validation and test need nothing of the auditor, so it need not learn of them where lists may differ.
        parts = (splits.train,) if psi else (splits.train, splits.val, splits.test)
        ids = sorted(record for split in parts for record in split.ids)
        place = {record: position for position, record in enumerate(ids)}
        self.train: Positions = np.array([place[record] for record in splits.train.ids], dtype=np.int64)
        options, privacy = settings.training, settings.privacy
        self.hello = DeveloperHello(
            protocol=PROTOCOL_VERSION,
            nonce=fresh_nonce(),
            method=method.name,
            release=release,
            settings=settings.shared_digest(method.name, release),
            records=len(ids),
            train=len(self.train),
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            width=model.width,
            classes=len(splits.train.classes),
            features=min(privacy.rank, model.width) if privacy.rank else model.width,
            releases=releases(settings),
            first=arrived(out) if release == "moment" else 0,
            earlier=lost_session(out),
            run=run_name(out, resume=resume),
            steps=steps,
            checkpoint_steps=options.checkpoint_steps,
        )
        if psi:
            self.answer, self.persons, agreed = developer_hello_psi(self.auditor, self.hello, ids)
            self._narrow(agreed)
        else:
            self.answer, self.persons = developer_hello(self.auditor, self.hello, ids, self.train)
        self.meter = Meter(self.auditor)  # from here on, so that the handshake's rounds are not a step's

    def _narrow(self, agreed: AgreedRun) -> None:
        """Go on with the records that both have; a resumed run with those of its first attempt, or not at all."""
        begun = common_ids(self.out)
        if begun not in (None, agreed.ids):
            raise ProtocolError(
                f"the run was begun on {len(begun or ())} common records, of which the auditor now has "
                f"{len(agreed.ids)}; start a new run"
            )
        keep_common(self.out, agreed.ids)
        self.hello, self.train = agreed.hello, agreed.train
        self.splits = replace(self.splits, train=self.splits.train.only(agreed.ids))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train) / self.settings.training.batch_size)

    def features(self) -> Features:
        """The vectors that private releases are about."""
        return Features(self.settings, self.model, self.splits, self.progress, self.processes)

    def source(self, plan: Plan) -> CorrelationSource:
        """The dealer's randomness for a plan."""
        self.dealt = CorrelationSource("developer", self.links.connect("dealer"), plan, self.settings.network.prefetch)
        return self.dealt

    def end(self) -> None:
        """Tell both peers that nothing more will be asked, and leave them: the auditor is free for the next run.

        A term does so as soon as it has all it needs: training may take longer than anybody waits. Once is enough.
        """
        if self._ended:
            return
        self._ended = True
        self.auditor.send(Kind.END)
        if self.dealt is not None:
            self.dealt.close()
        self.links.close()
        self.links.where = ""
