"""The developer's side of the private releases, which end in soft attributes.

`moment`: one secure protocol run before training (or at the start of every epoch); `randomized-response`: none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from parties.arrays import save_arrays
from parties.messages import COUNT_BYTES, decode_count
from parties.moments import SHARE_FILE, moment_plan, releases
from parties.soft_attributes import SoftTable, SoftTerm, predict, reused_term
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, developer_moment, developer_open, joined
from secure_fair.privacy.accountant import gaussian_cost, split_epsilon
from secure_fair.releases import ridge
from secure_fair.releases.moment import MomentPlan, quantise
from secure_fair.releases.randomized_response import debias, variance

if TYPE_CHECKING:
    from parties.run import Run


class MomentTerm(SoftTerm):
    """Asks for a moment before the first step, and with refresh = "epoch" before every epoch."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.settings, run.method, run.weight, run.model, run.splits.train)
        self._run = run
        self._share_file = run.out / SHARE_FILE
        sent_again = bool(decode_count(run.auditor.receive(Kind.HELLO, size=COUNT_BYTES)))
        self._lost = run.hello.first if sent_again else None
        left = range(run.hello.first + sent_again, run.hello.releases)
        self._source = run.source(joined(self._shape(self._plan(index)) for index in left)) if left else None
        if run.hello.first:
            self.take(SoftTable.load(run.out, run.splits, run.hello.release, run.settings.attributes.columns))
        # After the dealer is connected: features of a large data set take longer than it waits for us.
        self._features = run.features()
        if not run.hello.first:
            self.release(0)  # before training: UNL changes the model

    def refresh(self, epoch: int) -> None:
        if epoch < self._run.hello.first:
            super().refresh(epoch)
        elif epoch > 0 and self._settings.privacy.refresh == "epoch":
            self.release(epoch)

    def release(self, index: int) -> None:
        """Run the protocol and build the predictor from the noisy moment."""
        run, privacy, plan = self._run, self._settings.privacy, self._plan(index)
        cost = gaussian_cost(privacy.epsilon, privacy.delta, releases(self._settings))
        u = self._features.vectors(with_current=index > 0)
        within = plan.classes > 1
        labels = run.splits.train.labels.numpy() if within else None
        began = time.perf_counter()
        run.links.where = f"moment {index + 1} of {run.hello.releases}"

        def record(name: str, value: torch.Tensor, _unit: float) -> None:
            epsilon = cost.epsilon(privacy.delta)
            run.log.add(run.steps_per_epoch * index, name, value.numpy(), run.train, unit=plan.unit, epsilon=epsilon)

        shape = self._shape(plan)

        def blocks() -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
            for start in range(0, len(u["train"]), shape.block):
                rows = slice(start, start + shape.block)
                y = torch.nn.functional.one_hot(run.splits.train.labels[rows], plan.classes) if within else None
                yield torch.from_numpy(quantise(u["train"][rows], plan)), y

        party = Party("developer", run.auditor, self._source, record)
        if index == self._lost:
            with np.load(self._share_file, allow_pickle=False) as arrays:
                moment = developer_open(party, torch.from_numpy(arrays["share"]))
        else:
            session = party.source.session

            def keep(share: torch.Tensor) -> None:
                save_arrays(self._share_file, session=np.array(session), index=np.array(index), share=share.numpy())

            moment = developer_moment(party, shape, blocks(), keep)
        if index + 1 == run.hello.releases:
            run.end()
        run.meter.add(time.perf_counter() - began, shape.floor_bytes)
        persons = run.persons if plan.weighted else None
        predictor = ridge.from_moment(u["train"], labels, moment.numpy(), plan, plan.noise_scale(cost), persons)
        table = predict(predictor, u, run.splits, run.answer.groups, within, index)
        table.save(run.out, run.hello.release, self._settings.attributes.columns)
        self._share_file.unlink(missing_ok=True)
        self.use(table.rows["train"], table.groups)

    def _plan(self, index: int) -> MomentPlan:
        hello, answer = self._run.hello, self._run.answer
        return moment_plan(self._settings, answer.groups, hello.classes, hello.features, answer.weighted, index)

    def _shape(self, plan: MomentPlan) -> MomentShape:
        return MomentShape(plan.dimension, plan.columns, plan.classes, self._run.hello.train)


def response_term(run: Run) -> SoftTerm:
    """Flipped attributes, debiased and smoothed by the same ridge step."""
    settings, groups = run.settings, run.answer.groups
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=len(run.train) * len(groups))
    run.meter.add(time.perf_counter() - began, len(payload))
    answers = np.frombuffer(payload, dtype=np.uint8).reshape(len(groups), -1).astype(np.int64)
    run.log.add(0, "randomized response", answers, run.train, epsilon=settings.privacy.epsilon)
    run.end()
    share = split_epsilon(settings.privacy.epsilon, len(groups))
    rows = [debias(answer, k, share) for answer, k in zip(answers, groups, strict=True)]
    within = settings.fairness.criterion == "odds"
    u = run.features().vectors(with_current=False)
    labels = run.splits.train.labels.numpy() if within else None
    variances = [variance(k, share) for k in groups]
    predictor = ridge.from_responses(u["train"], labels, run.hello.classes if within else 1, rows, variances)
    table = predict(predictor, u, run.splits, groups, within)
    table.save(run.out, run.hello.release, settings.attributes.columns)
    return reused_term(settings, run.method, run.weight, table, run.model, run.splits.train)
