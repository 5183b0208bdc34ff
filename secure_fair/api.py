"""The public Python API: what the commands do, and a fairness term for a training loop of your own.

Stability: this module, the settings' keys, and the files that `docs` describes follow semantic versioning. From 1.0 on
a name or an argument here is not removed or changed within a major version; until then a minor version may do so and
the changelog says it. Every other module may change at any time.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from parties.own_plan import TrainingPlan
from secure_fair.errors import RunError, SettingsError
from secure_fair.files import replacing, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from parties.own_loop import Loop

__all__ = ["FairnessTerm", "TrainingPlan", "audit", "compare", "report", "simulate", "write_attributes"]
Overrides = Mapping[str, object]
NO_OVERRIDES: Overrides = {}


def simulate(
    settings: str | Path,
    *,
    method: str,
    release: str,
    out: str | Path,
    policy: str | Path | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> dict[str, Any]:
    """Train with secret-shared attributes: three processes on this machine. Returns summary.json.

    release has no default: what is revealed is a decision. overrides: {"training.epochs": 1} and so on. Raises
    SecureFairError, whose text says the mend.
    """
    from parties.simulation import Simulation
    from parties.simulation import simulate as run
    from secure_fair.settings import load

    sets = _sets(overrides)
    file = Path(settings)
    own = None if policy is None else Path(policy)
    return run(Simulation(load(file, sets), file, sets, method, release, Path(out), policy=own))


def compare(
    settings: str | Path,
    *,
    methods: Sequence[str] = ("erm", "orth"),
    releases: Sequence[str],
    seeds: int = 1,
    out: str | Path,
    overrides: Overrides = NO_OVERRIDES,
) -> dict[str, Any]:
    """Train every method in plaintext and under every release that it knows. Returns compare.json."""
    from parties.comparison import arms
    from parties.comparison import compare as run
    from secure_fair.settings import load

    sets = _sets(overrides)
    file = Path(settings)
    effective = load(file, sets)
    chosen = arms(methods, releases, seeds, effective.training.seed)
    return run(effective, file, sets, chosen, Path(out), lambda _: None, lambda *_: None)


def audit(
    predictions: str | Path,
    attributes: str | Path,
    *,
    out: str | Path,
    columns: Sequence[str] = (),
    exact: bool = False,
    policy: str | Path | None = None,
    overrides: Overrides = NO_OVERRIDES,
) -> dict[str, Any]:
    """Group metrics of any model's predictions, by three processes on this machine. Returns audit.json.

    predictions: CSV or Parquet with id, label, and prediction or score; attributes: id and attributes. columns: all of
    them by default. Counts are noised under `privacy.epsilon` unless `exact` or the policy says otherwise. overrides:
    {"audit.threshold": 0.5, "privacy.epsilon": 1.0} and so on. Raises SecureFairError.
    """
    from parties.audit_simulation import AuditSimulation, simulate_audit
    from secure_fair.settings import Settings, load, parse

    base = load(None, _sets(overrides)).model_dump()
    base["audit"]["predictions"] = Path(predictions)
    base["attributes"] |= {"file": Path(attributes), "columns": tuple(columns)}
    effective = parse(Settings, base, "the arguments")
    return simulate_audit(AuditSimulation(effective, Path(out), None if policy is None else Path(policy), exact))


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the HTML page about what compare, simulate, train or audit left in a folder; returns its place."""
    from secure_fair.report.page import write

    return write(Path(folder), None if out is None else Path(out))


def write_attributes(
    folder: str | Path,
    ids: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    categories: Mapping[str, Sequence[str]],
) -> Path:
    """Write an auditor's folder (attributes.csv, schema.json) and return the path of attributes.csv.

    attributes: column -> a category's name for each id; categories: column -> all names, which are public and must not
    be read off the data. Raises SettingsError for a value outside of them.
    """
    for column, values in attributes.items():
        unknown = set(values) - set(categories.get(column, ()))
        if unknown or len(values) != len(ids):
            raise SettingsError(f"{column}: needs one of its categories for each of the {len(ids)} ids")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    table = place / "attributes.csv"
    with replacing(table) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", *attributes))
        writer.writerows(zip(ids, *attributes.values(), strict=True))
    schema = {"version": 1, "attributes": {name: list(categories[name]) for name in attributes}, "person": None}
    write_json(place / "schema.json", schema)
    return table


class FairnessTerm:
    """What a training loop of your own adds to its task loss.

        plan = TrainingPlan(ids, y, classes=2, width=32, batch_size=64, epochs=3)
        with FairnessTerm.simulate("settings.toml", plan, method="orth", release="gradient", out="run") as term:
            for batch in batches:                       # of the planned sizes; any order within an epoch
                h = encoder(x[batch])                   # [n, width], in the graph
                loss = cross_entropy(head(h), y[batch]) + term(h, y[batch], batch)

    Calling it gives `weight` times the fairness loss, whose gradient with respect to `h` is what the release gives;
    `value` is the last loss without its weight. `begin` and `finish` are the call's two halves, between which the
    network works, and `prepare`, before the forward pass, hides more of it. The number of steps and the size of each
    batch are agreed before training: batches of batch_size, and the short last one of each epoch. A loop may stop
    early; the parties are told.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.weight = loop.weight
        self.value: float | None = None

    def __call__(self, h: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        """`weight` times the loss of the records at `index` [n] of `ids`, with representations h [n, width].

        Raises RunError for a batch that was not planned, and what ends a run.
        """
        self.begin(h, labels, index)
        return self.finish()

    def prepare(self, labels: Tensor, index: Tensor) -> None:
        """Announce the batch before its forward pass; may be left out."""
        self._planned(len(index))
        self._loop.term.prepare(labels, index.cpu())

    def begin(self, h: Tensor, labels: Tensor, index: Tensor) -> None:
        """Send what the auditor needs."""
        self._planned(len(h))
        self._loop.term.begin(h, labels, index.cpu())

    def _planned(self, records: int) -> None:
        """Refuse a batch that the dealer has not dealt for, before anything is sent."""
        loop = self._loop
        if loop.complete:
            raise RunError(f"all {len(loop.sizes)} planned steps are done; plan more epochs")
        if records != loop.sizes[loop.done]:
            raise RunError(
                f"step {loop.done + 1} has {records} records where {loop.sizes[loop.done]} were planned; use every "
                "record once an epoch, in batches of batch_size, and keep the short last one (drop_last=False)"
            )

    def finish(self) -> Tensor:
        """Take the answer."""
        loss = self._loop.term.finish()
        self._loop.done += 1
        self.value = float(loss.detach())
        return self.weight * loss

    @classmethod
    @contextmanager
    def simulate(
        cls,
        settings: str | Path,
        plan: TrainingPlan,
        *,
        method: str,
        release: str,
        out: str | Path,
        overrides: Overrides = NO_OVERRIDES,
    ) -> Iterator[Self]:
        """A term with an auditor and a dealer as processes on this machine: to try, to test, to measure.

        settings: a file with [attributes] (file, columns), and [fairness], [adversary], [privacy] as wanted.
        Leaves out/developer (disclosures.jsonl, cost.json) and out/auditor (policy, ledger, log).
        """
        from parties.own_loop import simulated

        with simulated(Path(settings), _sets(overrides), method, release, plan, Path(out)) as loop:
            yield cls(loop)

    @classmethod
    @contextmanager
    def connect(
        cls,
        settings: str | Path,
        plan: TrainingPlan,
        *,
        method: str,
        release: str,
        out: str | Path,
        overrides: Overrides = NO_OVERRIDES,
    ) -> Iterator[Self]:
        """A term that asks the auditor and the dealer named in [network], as `secure-fair party developer` does.

        Arguments as in `simulate`; `out` is the developer's folder. Use it in the main thread: a peer that goes away
        interrupts whatever the loop is doing.
        """
        from parties.own_loop import connected
        from secure_fair.settings import load

        with connected(load(Path(settings), _sets(overrides)), method, release, plan, Path(out)) as loop:
            yield cls(loop)


def _sets(overrides: Overrides) -> tuple[str, ...]:
    """Overrides as the command line writes them."""
    from secure_fair.settings import toml

    return tuple(f"{key}={toml(str(value) if isinstance(value, Path) else value)}" for key, value in overrides.items())
