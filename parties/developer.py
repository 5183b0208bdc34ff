"""The developer's process: trains its model, asking the auditor for what the fairness term needs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parties.handshake import developer_hello, fresh_nonce
from parties.links import Links, opened
from parties.messages import PROTOCOL_VERSION, DeveloperHello, Positions, encode_step
from parties.schedule import training_plan
from secure_fair.data.images import ImageSet, batches
from secure_fair.errors import SettingsError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import FairnessTerm
from secure_fair.model.classifier import FairClassifier
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, developer_moment
from secure_fair.mpc.terms import PublicShape, SecureMethod
from secure_fair.privacy.accountant import gaussian_cost, split_epsilon
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.releases import ridge
from secure_fair.releases.moment import FeatureMap, MomentPlan, quantise, vectors
from secure_fair.releases.randomized_response import debias, variance
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import Splits, TrainingResult, train
from secure_fair.training.setup import developer_side

MOMENT_BLOCK = 2048  # rows; a block's product then fits the caches, and memory stays small
FEATURE_BATCH = 256
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cost:
    """What the run cost; the fields of cost.json. Bytes are those on the wire without TLS and heartbeats."""

    steps: int
    rounds_per_step: float
    bytes_sent: int
    bytes_received: int
    floor_bytes: int
    offline_bytes: int
    mpc_seconds: float
    train_seconds: float
    total_seconds: float


def run_developer(
    settings: Settings, method_name: str, release: str, out: Path, progress: Progress, *, resume: bool = False
) -> TrainingResult:
    """Train with a method under a release and write RUN/developer. Raises what ended the run; the peers are told."""
    began = time.perf_counter()
    method = methods.get(method_name)
    if release not in method.releases:
        raise SettingsError(
            f"method `{method_name}` has no release `{release}`; choose one of {', '.join(method.releases)}"
        )
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    model, splits = developer_side(settings)
    out.mkdir(parents=True, exist_ok=True)
    weight = method.weight(settings, release)
    if release == "none":
        term = methods.factory(method.plain)(settings, (), model.width)
        result = train(model, term, weight, splits, settings, out, _stage(progress, "training"), resume=resume)
        total = time.perf_counter() - began
        _write_cost(out, Cost(result.steps, 0.0, 0, 0, 0, 0, 0.0, result.train_seconds, total))
        return result
    with (
        opened(settings.network) as links,
        DisclosureLog(out, release, store=settings.privacy.store_values) as log,
    ):
        run = _Run(settings, method, release, out, links, log, model, splits, progress)
        term, meter = _TERMS[release](run)
        result = train(model, term, weight, splits, settings, out, _stage(progress, "training"), resume=resume)
        run.auditor.send(Kind.END)
        meter.source_close()
    total = time.perf_counter() - began
    _write_cost(out, meter.cost(result, total))
    return result


class _Run:
    """A run that the auditor has accepted."""

    def __init__(
        self,
        settings: Settings,
        method: methods.Method,
        release: str,
        out: Path,
        links: Links,
        log: DisclosureLog,
        model: FairClassifier,
        splits: Splits,
        progress: Progress,
    ) -> None:
        self.settings, self.method, self.out, self.log = settings, method, out, log
        self.model, self.splits, self.progress = model, splits, progress
        self.auditor = links.connect("auditor")
        self._links = links
        ids = sorted(record for split in (splits.train, splits.val, splits.test) for record in split.ids)
        place = {record: position for position, record in enumerate(ids)}
        self.train: Positions = np.array([place[record] for record in splits.train.ids], dtype=np.int64)
        options, privacy = settings.training, settings.privacy
        feature_width = min(privacy.rank, model.width) if privacy.rank else model.width
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
            blocks=MOMENT_BLOCK,
            dimension=feature_width + 1,
        )
        self.answer, self.persons = developer_hello(self.auditor, self.hello, ids, self.train)

    def source(self, plan: Plan) -> CorrelationSource:
        """The dealer's randomness for a plan."""
        return CorrelationSource("developer", self._links.connect("dealer"), plan)

    @property
    def labels(self) -> torch.Tensor:
        """Task labels of the training records, in the agreed order."""
        return self.splits.train.labels


class _Meter:
    """Counts what the secure part of a run costs."""

    def __init__(self, run: _Run, source: CorrelationSource | None) -> None:
        self._auditor, self._source = run.auditor, source
        self.seconds = 0.0
        self.floor_bytes = 0
        self.steps = 0
        self._rounds_before = run.auditor.rounds

    def source_close(self) -> None:
        if self._source is not None:
            self._source.close()

    def cost(self, result: TrainingResult, total: float) -> Cost:
        rounds = (self._auditor.rounds - self._rounds_before) / max(self.steps, 1)
        return Cost(
            steps=result.steps,
            rounds_per_step=round(rounds, 3),
            bytes_sent=self._auditor.bytes_sent,
            bytes_received=self._auditor.bytes_received,
            floor_bytes=self.floor_bytes,
            offline_bytes=0 if self._source is None else self._source.offline_bytes,
            mpc_seconds=self.seconds,
            train_seconds=result.train_seconds,
            total_seconds=total,
        )


class _Metered:
    """A fairness term whose time is added to a meter's."""

    def __init__(self, term: FairnessTerm, meter: _Meter, floor: Callable[[int], int]) -> None:
        self.name, self._term, self._meter, self._floor = term.name, term, meter, floor

    def begin(self, h: torch.Tensor, labels: torch.Tensor, positions: torch.Tensor, /) -> None:
        began = time.perf_counter()
        self._term.begin(h, labels, positions)
        self._meter.seconds += time.perf_counter() - began
        self._meter.floor_bytes += self._floor(len(h))
        self._meter.steps += 1

    def finish(self) -> torch.Tensor:
        began = time.perf_counter()
        value = self._term.finish()
        self._meter.seconds += time.perf_counter() - began
        return value

    def state(self) -> dict[str, torch.Tensor]:
        return self._term.state()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self._term.restore(state)

    def close(self) -> None:
        self._term.close()


def _gradient_term(run: _Run) -> tuple[FairnessTerm, _Meter]:
    """A secure term that asks the auditor in every step."""
    secure: SecureMethod = methods.factory(run.method.secure["gradient"])()
    public = PublicShape(run.model.width, run.hello.classes, run.answer.groups)
    source = run.source(training_plan(secure, run.settings, public, run.hello))
    current: dict[str, Any] = {"step": -1, "records": np.empty(0, dtype=np.int64)}

    def record(name: str, value: torch.Tensor, unit: float) -> None:
        run.log.add(current["step"], name, value.numpy(), current["records"], unit=unit)

    def announce(positions: torch.Tensor) -> None:
        current["step"] += 1
        current["records"] = run.train[positions.numpy()]
        run.auditor.send(Kind.STEP, *encode_step(current["step"], current["records"]))

    party = Party("developer", run.auditor, source, record)
    meter = _Meter(run, source)
    term = secure.developer(run.settings, public, party, announce)
    return _Metered(term, meter, lambda n: secure.floor_bytes(public, n)), meter


def _moment_term(run: _Run) -> tuple[FairnessTerm, _Meter]:
    """One release before training; then the plaintext term with soft attributes."""
    settings, hello, privacy = run.settings, run.hello, run.settings.privacy
    within_classes = settings.fairness.criterion == "odds"
    classes = hello.classes if within_classes else 1
    plan = MomentPlan(run.answer.groups, classes, hello.dimension, 1, privacy.clip, run.answer.weighted)
    cost = gaussian_cost(privacy.epsilon, privacy.delta)
    made = _Vectors.of(run)
    u = made.train
    labels = run.labels.numpy() if within_classes else None
    shape = MomentShape(hello.dimension, plan.columns, classes, len(u), MOMENT_BLOCK)
    source = run.source(shape.plan())
    meter = _Meter(run, source)

    def record(name: str, value: torch.Tensor, _unit: float) -> None:
        epsilon = cost.epsilon(privacy.delta)
        run.log.add(0, name, value.numpy(), run.train, unit=plan.unit, epsilon=epsilon)

    def blocks() -> Any:
        for start in range(0, len(u), MOMENT_BLOCK):
            rows = slice(start, start + MOMENT_BLOCK)
            y = torch.nn.functional.one_hot(run.labels[rows], classes) if within_classes else None
            yield torch.from_numpy(quantise(u[rows], plan)), y

    began = time.perf_counter()
    moment = developer_moment(Party("developer", run.auditor, source, record), shape, blocks())
    meter.seconds = time.perf_counter() - began
    meter.steps = 1
    meter.floor_bytes = shape.floor_bytes
    persons = run.persons if run.answer.weighted else None
    soft = ridge.from_moment(u, labels, moment.numpy(), plan, plan.noise_scale(cost), persons)
    return _soft_term(run, made, soft), meter


def _response_term(run: _Run) -> tuple[FairnessTerm, _Meter]:
    """Flipped attributes, debiased, smoothed by the same ridge step; then the plaintext term."""
    settings, groups = run.settings, run.answer.groups
    meter = _Meter(run, None)
    began = time.perf_counter()
    payload = run.auditor.receive(Kind.OPEN, size=len(run.train) * len(groups))
    meter.seconds = time.perf_counter() - began
    meter.steps, meter.floor_bytes = 1, len(payload)
    epsilon = settings.privacy.epsilon
    answers = np.frombuffer(payload, dtype=np.uint8).reshape(len(groups), -1).astype(np.int64)
    run.log.add(0, "randomized response", answers, run.train, epsilon=epsilon)
    share = split_epsilon(epsilon, len(groups))
    rows = [debias(answer, k, share) for answer, k in zip(answers, groups, strict=True)]
    within_classes = settings.fairness.criterion == "odds"
    labels = run.labels.numpy() if within_classes else None
    made = _Vectors.of(run)
    soft = ridge.from_responses(
        made.train, labels, run.hello.classes if within_classes else 1, rows, [variance(k, share) for k in groups]
    )
    return _soft_term(run, made, soft), meter


_TERMS: dict[str, Callable[[_Run], tuple[FairnessTerm, _Meter]]] = {
    "gradient": _gradient_term,
    "moment": _moment_term,
    "randomized-response": _response_term,
}


@dataclass(frozen=True)
class _Vectors:
    """u of the training records [N, D] in the agreed order, and what makes u of other records."""

    train: np.ndarray
    feature_map: FeatureMap

    @staticmethod
    def of(run: _Run) -> _Vectors:
        features = _frozen_features(run, run.splits.train, "train")
        feature_map = FeatureMap.fit(features, run.settings.privacy.rank, run.settings.training.seed)
        return _Vectors(vectors([feature_map], [features]), feature_map)


def _frozen_features(run: _Run, images: ImageSet, split: str) -> np.ndarray:
    """Pooled features [n, d] with LoRA off, in position order."""
    chosen = device.resolve(run.settings.training.device)
    model = run.model.to(chosen).eval()
    features = np.empty((len(images), model.width), dtype=np.float32)
    done = 0
    for batch in batches(images, FEATURE_BATCH, epoch=None, seed=0, workers=run.settings.data.workers):
        with device.autocast(run.settings, chosen):
            block = model.frozen_features(batch.images.to(chosen))
        features[done : done + len(block)] = block.float().cpu().numpy()
        done += len(block)
        run.progress(f"frozen features, {split}", done, len(images))
    return features


def _soft_term(run: _Run, u: _Vectors, predictor: ridge.SoftAttributes) -> FairnessTerm:
    """The plaintext term with soft attributes [N, sum of K] in place of one-hot rows.

    Soft attributes of every split are kept: they are what the developer now knows, and what attacks start from.
    """
    within_classes = run.settings.fairness.criterion == "odds"
    ids: list[str] = []
    splits: list[str] = []
    rows: list[np.ndarray] = []
    for split, images in (("train", run.splits.train), ("val", run.splits.val), ("test", run.splits.test)):
        own = u.train if split == "train" else vectors([u.feature_map], [_frozen_features(run, images, split)])
        rows.append(predictor.predict(own, images.labels.numpy() if within_classes else None))
        ids += images.ids
        splits += [split] * len(images)
    np.savez(
        run.out / "soft_attributes.npz",
        ids=np.array(ids),
        split=np.array(splits),
        soft=np.concatenate(rows),
        groups=np.array(run.answer.groups),
    )
    attributes: Sequence[torch.Tensor] = torch.from_numpy(rows[0]).split(list(run.answer.groups), dim=1)
    term: FairnessTerm = methods.factory(run.method.plain)(run.settings, attributes, run.model.width)
    return term


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _write_cost(out: Path, cost: Cost) -> None:
    (out / "cost.json").write_text(json.dumps({"version": 1, **asdict(cost)}, indent=2) + "\n")
