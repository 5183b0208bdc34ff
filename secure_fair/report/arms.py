"""The rows of a comparison by arm: means and intervals over seeds, paired differences, overhead."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from secure_fair.files import replacing
from secure_fair.report.statistics import Estimate, over_seeds, ratio_over_seeds

Row = Mapping[str, Any]
METRICS = (
    "accuracy",
    "balanced_accuracy",
    "auc",
    "worst_group_accuracy",
    "demographic_parity_difference",
    "true_positive_rate_difference",
    "false_positive_rate_difference",
    "equalized_odds_difference",
)
COSTS = (
    "steps",
    "rounds_per_step",
    "bytes_sent",
    "bytes_received",
    "floor_bytes",
    "offline_bytes",
    "mpc_seconds",
    "exposed_seconds",
    "train_seconds",
    "total_seconds",
)
UNKEPT = (
    "Attacks need the values that were opened: set privacy.store_values = true, in another folder, to have them run."
)
UTILITY, BIAS = "accuracy", "equalized_odds_difference"


@dataclass(frozen=True)
class Spent:
    """What one person has spent on so many releases, by basic composition: epsilons and deltas add up."""

    epsilon: float
    delta: float
    releases: int


@dataclass(frozen=True)
class Arm:
    """One way to train: its rows, one a seed."""

    method: str
    release: str
    secure: bool
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """`orth, plaintext` or `orth, moment`."""
        return f"{self.method}, {self.release if self.secure else 'plaintext'}"

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(row["seed"] for row in self.rows)

    @property
    def spent(self) -> Spent | None:
        """What bounds what its models may show of the most exposed person, over all seeds; None: nothing does."""
        return spent(self.rows) if self.secure else None

    @property
    def epsilon(self) -> float | None:
        """That of `spent`."""
        return None if self.spent is None else self.spent.epsilon

    @property
    def reused(self) -> bool:
        """Whether it trains on a release that serves other rows too, so that intervals leave out its noise."""
        return any("reused" in row.get("privacy", {}) for row in self.rows)

    def over_seeds(self, read: Callable[[Row], float | None]) -> Estimate | None:
        return over_seeds(read(row) for row in self.rows)

    def metric(self, name: str) -> Estimate | None:
        return self.over_seeds(lambda row: row["metrics"].get(name))

    def minus(self, other: Arm, metric: str) -> Estimate | None:
        """The paired difference to another arm, over the seeds that both have."""
        theirs = {row["seed"]: row["metrics"].get(metric) for row in other.rows}
        pairs = [(row["metrics"].get(metric), theirs.get(row["seed"])) for row in self.rows]
        return over_seeds(own - their for own, their in pairs if own is not None and their is not None)

    def overhead(self, plaintext: Arm) -> Estimate | None:
        """Seconds a step over those of the plaintext arm of the same seed."""
        theirs = {row["seed"]: step_seconds(row) for row in plaintext.rows}
        pairs = [(step_seconds(row), theirs.get(row["seed"])) for row in self.rows]
        return ratio_over_seeds(own / their for own, their in pairs if own and their)


def spent(rows: Iterable[Row]) -> Spent | None:
    """Of the releases that these rows were trained on, each counted once however many rows it serves; None: no bound.

    A row whose release has no id is counted for itself, which is too much rather than too little.
    """
    blocks = {block.get("id", number): block for number, block in enumerate(row.get("privacy", {}) for row in rows)}
    if any(block.get("epsilon") is None for block in blocks.values()):
        return None
    epsilon, delta = (sum(block[key] for block in blocks.values()) for key in ("epsilon", "delta"))
    return Spent(epsilon, delta, sum(block["releases"] for block in blocks.values()))


def unaccounted(row: Row) -> bool:
    """Whether a row reuses a release without saying what that has cost, as an older version wrote it: epsilon 0."""
    privacy = row.get("privacy", {})
    return "reused" in privacy and "id" not in privacy


def unkept(rows: Iterable[Row]) -> bool:
    """Whether a secure row was not attacked since its settings kept nothing to attack."""
    secure = [row for row in rows if row["arm"] == "secure" and not row.get("leakage")]
    return any(not field(row, "config", "privacy", "store_values") for row in secure)


def step_seconds(row: Row) -> float | None:
    """Training seconds of one step."""
    cost = row["cost"]
    return cost["train_seconds"] / cost["steps"] if cost["steps"] else None


def field(row: Row, *path: str) -> Any:
    """A field of a summary by its path; None where the run has no such block."""
    value: Any = row
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def group(rows: Iterable[Row]) -> list[Arm]:
    """The arms in the order of their first rows."""
    found: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        found.setdefault((row["method"], row["release"], row["arm"] == "secure"), []).append(row)
    return [Arm(*key, tuple(own)) for key, own in found.items()]


def reference(arms: Iterable[Arm]) -> Arm | None:
    """The arm without fairness."""
    return next((arm for arm in arms if arm.method == "erm"), None)


def twin(arm: Arm, arms: Iterable[Arm]) -> Arm | None:
    """The plaintext arm of a secure arm's method."""
    if not arm.secure:
        return None
    return next((other for other in arms if other.method == arm.method and not other.secure), None)


def summarise(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The block `arms` of compare.json: each value as {mean, low, high, n} over seeds."""
    arms = group(rows)
    erm = reference(arms)
    return [_summary(arm, erm, twin(arm, arms)) for arm in arms]


def together(secure: Iterable[Arm]) -> Spent | None:
    """What the arms that have a bound have spent, each release counted once; None: none has one."""
    return spent(row for arm in secure if arm.spent is not None for row in arm.rows)


def privacy(rows: Iterable[Row]) -> dict[str, Any]:
    """The block `privacy` of compare.json: what all bounded arms have spent together, and which have no bound."""
    secure = [arm for arm in group(rows) if arm.secure]
    unbounded = [arm.name for arm in secure if arm.spent is None]
    return {**asdict(together(secure) or Spent(0.0, 0.0, 0)), "unbounded": unbounded}


def _summary(arm: Arm, erm: Arm | None, plaintext: Arm | None) -> dict[str, Any]:
    def differences(other: Arm | None) -> dict[str, Any]:
        return {} if other in (None, arm) else {name: _plain(arm.minus(other, name)) for name in METRICS}

    return {
        "method": arm.method,
        "release": arm.release,
        "arm": "secure" if arm.secure else "plaintext",
        "seeds": list(arm.seeds),
        "metrics": {name: _plain(arm.metric(name)) for name in METRICS},
        "minus_erm": differences(erm),
        "minus_plaintext": differences(plaintext),
        "recovered": _plain(arm.over_seeds(lambda row: field(row, "leakage", "attribute_recovery", "accuracy"))),
        "overhead": _plain(None if plaintext is None else arm.overhead(plaintext)),
        **({"release_reused": True} if arm.reused else {}),
    }


def _plain(value: Estimate | None) -> dict[str, float | None] | None:
    return None if value is None else value.as_dict()


COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("method", "release", "arm", "seed")},
    **{name: ("metrics", name) for name in METRICS},
    "epsilon": ("privacy", "epsilon"),
    "delta": ("privacy", "delta"),
    "reused": ("privacy", "reused"),
    "recovered": ("leakage", "attribute_recovery", "accuracy"),
    "in_minus_out": ("leakage", "in_minus_out", "difference"),
    "predictor_auc": ("leakage", "predictor", "auc"),
    "prior_auc": ("leakage", "predictor", "prior_auc"),
    "floor_auc": ("leakage", "floor_auc"),
    **{name: ("cost", name) for name in COSTS},
}


def write_csv(rows: Iterable[Row], file: Path) -> None:
    """One line a run; empty where a value does not exist."""
    with replacing(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([field(row, *path) for path in COLUMNS.values()] for row in rows)
