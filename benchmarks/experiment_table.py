"""The table of `secure-fair experiment` for the documentation, from a committed results.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from secure_fair.report.experiment import TESTED, Line
from secure_fair.report.experiment import lines as arms
from secure_fair.report.statistics import Estimate

COLUMNS = (
    "pair", "arm (weight)", "seeds", "balanced accuracy", "equalized-odds difference",
    "p, accuracy", "p, bias", "p, equivalence",
)  # fmt: skip


def lines(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """A line an arm; a pair is named in its first. Halves of 95 % intervals stand behind the means."""
    before = ""
    for line in arms(found):
        pair = found["pairs"][line.pair]
        name = "" if line.pair == before else f"{pair['task']}, {pair['attribute']} (`{line.pair}`)"
        before = line.pair
        tests = [*line.against_erm.values(), line.equivalence]
        means = [_mean(line.estimates[metric]) for metric in TESTED]
        yield [name, _arm(line), str(line.seeds), *means, *("" if p is None else _p(p) for p in tests)]


def _arm(line: Line) -> str:
    release = "" if line.arm == "plaintext" else f", secure with `{line.arm}`"
    return f"`{line.method}`{release}" + (f" ({line.weight:g})" if line.method != "erm" else "")


def _mean(estimate: Estimate | None) -> str:
    if estimate is None:
        return "none"
    return f"{estimate.mean:.3f}" + ("" if estimate.half is None else f" ± {estimate.half:.3f}")


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
