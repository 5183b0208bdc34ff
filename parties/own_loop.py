"""A training loop that is not ours: the developer is the user's own process, with a model and data of its own.

The conversation with auditor and dealer is that of `secure-fair party developer`; what differs is who calls the term.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from parties.developer import TERMS
from parties.features import Features, Floats
from parties.launch import Launch, peers
from parties.links import opened
from parties.moments import forget
from parties.own_plan import TrainingPlan
from parties.run import Run
from parties.simulation import own_policy
from secure_fair.errors import InterruptedRunError, RunError, SecureFairError, SettingsError
from secure_fair.fairness import methods
from secure_fair.fairness.terms import FairnessTerm
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.releases.moment import FeatureMap, vectors
from secure_fair.sections import TrainingSettings
from secure_fair.settings import Settings, load, parse
from secure_fair.training.loop import Splits, TrainingResult

_SPLITS = ("train", "val", "test")
RELEASES = ("gradient", "moment", "randomized-response")


def _splits(plan: TrainingPlan) -> Splits:
    """As a run asks for them; what it never asks for (images) is not there."""
    names = tuple(str(number) for number in range(plan.classes))
    empty = torch.empty(0, dtype=torch.int64)
    train = _Records(tuple(plan.ids), plan.labels.long().cpu(), names)
    others = _Records(tuple(plan.other_ids), empty, names)
    return cast("Splits", _Splits(train, _Records((), empty, names), others))


class _EndedError(InterruptedRunError):
    """The user's block was left before its last step."""


@dataclass(frozen=True)
class _Records:
    ids: tuple[str, ...]
    labels: torch.Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Splits:
    train: _Records
    val: _Records
    test: _Records


@dataclass(frozen=True)
class _Model:
    """As much of a model as the handshake asks for."""

    width: int
    classes: int


class _Given:
    """Takes the place of `Features`: vectors that the user has computed."""

    def __init__(self, settings: Settings, features: Floats) -> None:
        self._settings, self._features = settings, features

    def vectors(self, *, with_current: bool) -> dict[str, Floats]:
        """u [N, D] of the training records, and none of the others."""
        assert not with_current  # noqa: S101 (refresh = "epoch" has been refused)
        fitted = FeatureMap.fit(self._features, self._settings.privacy.rank, self._settings.training.seed)
        nothing = self._features[:0]
        return {
            split: vectors([fitted], [own])
            for split, own in zip(_SPLITS, (self._features, nothing, nothing), strict=True)
        }


class _Run(Run):
    """A run about data of the user's own."""

    given: _Given

    def features(self) -> Features:
        return cast("Features", self.given)


@dataclass
class Loop:
    """The term, its weight in the loss, and the sizes of the batches that it will be asked about, in order."""

    term: FairnessTerm
    weight: float
    sizes: list[int]
    done: int = 0

    @property
    def complete(self) -> bool:
        return self.done == len(self.sizes)


@contextmanager
def connected(settings: Settings, method_name: str, release: str, plan: TrainingPlan, out: Path) -> Iterator[Loop]:
    """Ask the auditor of `settings.network` for a run. Raises what `secure-fair party developer` would report.

    A block that is left before its last step tells the peers so and ends without an error.
    """
    began = time.perf_counter()
    method = methods.get(method_name)
    method.require_release(release)
    _check(settings, method, release, plan)
    own = settings.training.model_dump() | {"batch_size": plan.batch_size, "epochs": plan.epochs}
    training = parse(TrainingSettings, own, "the plan")
    settings = settings.model_copy(update={"training": training})
    out.mkdir(parents=True, exist_ok=True)
    forget(out)
    private = None if release == "gradient" else np.asarray(plan.features, dtype=np.float32)
    failure: Exception | None = None
    try:
        with opened(settings.network) as links, DisclosureLog(out, release, store=settings.privacy.store_values) as log:
            run = _Run(
                settings=settings,
                method=method,
                release=release,
                weight=method.weight(settings, release),
                out=out,
                links=links,
                log=log,
                model=cast("Any", _Model(plan.width if private is None else private.shape[1], plan.classes)),
                splits=_splits(plan),
                progress=lambda *_: None,
                resume=False,
            )
            run.model = cast("Any", _Model(plan.width, plan.classes))  # the auditor was told what is secret-shared
            run.splits = Splits(run.splits.train, run.splits.val, run.splits.val)  # the others were for the ids only
            if private is not None:
                run.given = _Given(settings, private)
            loop = Loop(TERMS[release](run), method.weight(settings, release), plan.sizes)
            try:
                yield loop
            except SecureFairError:
                raise
            except Exception as error:  # noqa: BLE001 the user's own: the peers learn that there was one, not its text
                failure = error
            if failure is not None or not loop.complete:
                raise _EndedError(f"the developer's loop ended after step {loop.done} of {len(plan.sizes)}")
            loop.term.close()
            run.end()
    except _EndedError:
        if failure is not None:
            raise failure from None
        return
    seconds = time.perf_counter() - began
    run.meter.cost(TrainingResult(loop.done, seconds, {}), run.dealt, seconds).write(out)


@contextmanager
def simulated(
    config: Path, overrides: tuple[str, ...], method: str, release: str, plan: TrainingPlan, run: Path
) -> Iterator[Loop]:
    """The same with an auditor and a dealer on this machine, under a policy that allows what is asked for."""
    settings = load(config, overrides)
    if settings.attributes.file is None:
        raise SettingsError("attributes.file is missing; it names the auditor's attributes.csv")
    if run.exists():
        raise RunError(f"{run}: exists already; name another folder")
    rules = own_policy(settings, release, settings.attributes.file.parent / "schema.json")
    (run / "auditor").mkdir(parents=True)
    policy = run / "auditor" / "policy.toml"
    policy.write_text(rules)
    launch = Launch(run, config, overrides, policy, method, release)
    with peers(launch) as (network, wait):
        own = load(config, (*overrides, *network))
        with connected(own, method, release, plan, run / "developer") as loop:
            yield loop
        try:
            wait()
        except RunError:  # of a loop that stopped early, the peers say so and end
            if loop.complete:
                raise


def _check(settings: Settings, method: methods.Method, release: str, plan: TrainingPlan) -> None:
    if method.own_images:
        raise SettingsError(f"method `{method.name}` works on our own backbone and adapter; use orth, adv or ent")
    if settings.attributes.alignment != "list":
        raise SettingsError(
            'attributes.alignment: a loop of your own names its records before it asks; set it to "list"'
        )
    if release not in RELEASES:
        raise SettingsError(f"a loop of your own has the releases {', '.join(RELEASES)}; choose one of them")
    if release != "gradient" and plan.features is None:
        raise SettingsError(f"release `{release}` is about fixed vectors of the records; give them as `features`")
    if release == "moment" and settings.privacy.refresh != "once":
        raise SettingsError('privacy.refresh = "epoch" needs our own training loop; set it to "once"')
