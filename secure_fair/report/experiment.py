"""The table of `secure-fair experiment`: utility and bias of each arm over seeds, against ERM and against its twin.

Tests are paired by seed. Against ERM: Student's t, two-sided. A secure arm against its plaintext twin: two one-sided t
tests (Schuirmann 1987) of the differences against a margin; only their success, not a difference that is not
significant, is called equivalence.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_fair.files import write_text
from secure_fair.report.statistics import LEAST, Estimate, over_seeds

METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "equalized_odds_difference": "eq. odds difference",
    "demographic_parity_difference": "parity difference",
    "worst_group_accuracy": "worst group",
}
MARGIN = 0.01
TESTED = ("balanced_accuracy", "equalized_odds_difference")


@dataclass(frozen=True)
class Line:
    """One arm of one pair: estimates by metric, p values against ERM and of the equivalence with the plaintext twin."""

    pair: str
    method: str
    arm: str  # "plaintext", or the release
    weight: float
    seeds: int
    estimates: Mapping[str, Estimate | None]
    against_erm: Mapping[str, float | None]
    equivalence: float | None  # the larger p of the tested metrics; None for a plaintext arm


def lines(result: Mapping[str, Any]) -> list[Line]:
    """The table's lines in the order of the rows."""
    groups: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for row in result["rows"]:
        arm = "plaintext" if row["arm"] == "plaintext" else row["release"]
        groups.setdefault((row["pair"], row["method"], arm), {})[row["seed"]] = row
    found = []
    for (pair, method, arm), rows in groups.items():
        erm, twin = groups.get((pair, "erm", "plaintext"), {}), groups.get((pair, method, "plaintext"))
        weights = {row["weight"] for row in rows.values()}
        same = arm != "plaintext" and twin is not None and {row["weight"] for row in twin.values()} == weights
        found.append(
            Line(
                pair,
                method,
                arm,
                weights.pop(),
                len(rows),
                {metric: over_seeds(row["metrics"][metric] for row in rows.values()) for metric in METRICS},
                {metric: None if method == "erm" else paired(differences(rows, erm, metric)) for metric in TESTED},
                max(equivalence(differences(rows, twin, metric)) for metric in TESTED) if same and twin else None,
            )
        )
    return found


def differences(
    rows: Mapping[int, Mapping[str, Any]], others: Mapping[int, Mapping[str, Any]], metric: str
) -> list[float]:
    """rows minus others by seed, where both are numbers."""
    pairs = [(rows[seed]["metrics"][metric], others[seed]["metrics"][metric]) for seed in rows if seed in others]
    return [first - second for first, second in pairs if first is not None and second is not None]


def paired(found: Sequence[float]) -> float | None:
    """p of a mean difference other than 0 (two-sided paired t); None with fewer than two."""
    if len(found) < 2:
        return None
    spread = statistics.stdev(found)
    if not spread:
        return 1.0 if not found[0] else 0.0
    from scipy.stats import t

    return float(2 * t.sf(abs(statistics.fmean(found)) * math.sqrt(len(found)) / spread, len(found) - 1))


def equivalence(found: Sequence[float], margin: float = MARGIN) -> float:
    """p of two one-sided paired t tests: below 0.05 the mean difference is within the margin. 1 with fewer than two."""
    if len(found) < 2:
        return 1.0
    mean, spread = statistics.fmean(found), statistics.stdev(found)
    if not spread:
        return 0.0 if abs(mean) < margin else 1.0
    from scipy.stats import t

    scale = spread / math.sqrt(len(found))
    return float(max(t.sf((mean + margin) / scale, len(found) - 1), t.cdf((mean - margin) / scale, len(found) - 1)))


HEADER = (
    "pair", "method", "arm", "weight", "seeds",
    *(text for name in METRICS.values() for text in (name, "+-")),
    "p utility", "p bias", "p equivalence",
)  # fmt: skip


def cells(line: Line) -> list[str]:
    """The line's cells under HEADER."""
    row = [line.pair, line.method, line.arm, f"{line.weight:g}", str(line.seeds)]
    for estimate in line.estimates.values():
        row.append("" if estimate is None else f"{estimate.mean:.4f}")
        row.append("" if estimate is None or estimate.half is None else f"{estimate.half:.4f}")
    tests = [*line.against_erm.values(), line.equivalence]
    return [*row, *("" if value is None else f"{value:.2g}" for value in tests)]


def write(result: Mapping[str, Any], out: Path) -> list[Line]:
    """OUT/table.csv, table.tex and table.html; returns the lines."""
    import csv

    found = lines(result)
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(cells(line) for line in found)
    write_text(out / "table.tex", latex(found))
    write_text(out / "table.html", html(found, result["rule"]))
    return found


def latex(found: Sequence[Line]) -> str:
    """A booktabs table, utility and bias with half the 95 % interval in per cent; * : p < 0.05 against ERM."""
    rows = []
    for number, line in enumerate(found):
        if number and found[number - 1].pair != line.pair:
            rows.append(r"\midrule")
        text = [_number(line, metric) for metric in TESTED]
        equal = "" if line.equivalence is None else f"{line.equivalence:.2g}"
        rows.append(" & ".join([_tex(line.pair), _tex(line.method), _tex(line.arm), *text, equal]) + r" \\")
    head = r"pair & method & arm & balanced accuracy & equalized-odds difference & $p$ (equivalence) \\"
    body = "\n".join(rows)
    return f"\\begin{{tabular}}{{lllccc}}\n\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _number(line: Line, metric: str) -> str:
    estimate, p = line.estimates[metric], line.against_erm[metric]
    if estimate is None:
        return "--"
    half = "" if estimate.half is None else rf" \pm {100 * estimate.half:.1f}"
    star = "^{*}" if p is not None and p < 0.05 else ""
    return f"${100 * estimate.mean:.1f}{half}{star}$"


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)


def html(found: Sequence[Line], rule: str) -> str:
    """One self-contained page."""
    from html import escape

    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(line)) + "</tr>" for line in found)
    notes = (
        f"Means over seeds of the test split, with half the 95 % interval (Student's t; {LEAST} seeds or more). "
        "p utility, p bias: paired t "
        "test against ERM of balanced accuracy and equalized-odds difference. p equivalence: two one-sided paired "
        f"tests against the plaintext twin, margin {MARGIN:g}, the larger of both metrics; equivalent below 0.05. "
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>secure-fair experiment</title>'
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;"
        "padding:.3em .6em;text-align:right}td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}</style>"
        f"<h1>Experiment</h1><p>{escape(notes + rule)}</p><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n"
        "</tbody></table></html>\n"
    )
