"""An audit on the page: what it found, group by group, and what it gave away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_fair.report.charts.bars import Bar, bars
from secure_fair.report.charts.common import Key
from secure_fair.report.figures import Cells, Figure, Section, Table, interval, mean_of, number
from secure_fair.report.statistics import Estimate, epsilon_text
from secure_fair.report.words import Reading

Audit = Mapping[str, Any]
MODEL = Key("M", "moment", "the audited model")
RATES = {
    "true_positive_rate": "True positive rate",
    "false_positive_rate": "False positive rate",
    "selection_rate": "Selection rate",
    "accuracy_score": "Accuracy",
}
HEADLINES = {
    "demographic_parity_difference": "demographic parity difference",
    "equalized_odds_difference": "equalized odds difference",
    "accuracy_score_difference": "accuracy difference",
    "accuracy_score_group_min": "accuracy of the worst group",
}
METHOD = (
    "95 % intervals: Wilson for a rate; for differences and ratios all pairs of groups with Bonferroni, so they cover "
    "at least that. The noise of a noised audit is in them."
)


def reading(audit: Audit) -> Reading:
    """What the audit opened, and under which protection."""
    privacy = audit["privacy"]
    if privacy.get("mode") == "exact":
        return Reading(
            "exposed",
            "exact counts",
            "The developer got exact counts of the audited people",
            "Counts by group, label and prediction were opened as they are. There is no differential privacy for the "
            "people in these records: audits of slightly different predictions or records can single people out, which "
            "is why the policy allows exact audits for frozen sets of records only.",
        )
    if privacy.get("mode") == "noised" and privacy.get("epsilon") is not None:
        return Reading(
            "bounded",
            "bounded if all follow the protocol",
            "The developer got counts by group with noise",
            "What being in these records adds to what the developer can learn of a person\u2019s attributes is bounded "
            f"by epsilon {epsilon_text(privacy['epsilon'])} (delta {number(privacy.get('delta'), 'g')}), if the "
            "developer runs this program unchanged and nobody colludes with the dealer. It was debited to each person "
            "in the auditor\u2019s ledger.",
        )
    return Reading(
        "exposed",
        "not protected",
        "An audit of a kind that this report does not know",
        "Assume that the developer learned the attributes until the documentation of the version that made it says "
        "otherwise.",
    )


def lead(audit: Audit) -> list[str]:
    """The audit in a sentence for each attribute."""
    rows = audit["cost"].get("rows", 0)
    return [
        f"Audit of {rows:,} predictions by {attribute}: "
        + "; ".join(f"{title} {_value(audit, attribute, name)}" for name, title in HEADLINES.items() if name in found)
        + "."
        for attribute, found in audit["metrics"].items()
    ]


def sections(audit: Audit) -> list[Section]:
    """A section an attribute, and one on the cost."""
    found = [_attribute(audit, attribute, place) for place, attribute in enumerate(audit["metrics"])]
    rows: list[Cells] = [
        [name, str(value)] for block in ("cost", "privacy") for name, value in audit[block].items() if value is not None
    ]
    cost = Table("Cost and privacy of the audit", ("what", "value"), rows, words=True)
    return [
        *found,
        Section("audit-cost", "Audit: cost and privacy", "As the developer\u2019s process counted.", tables=[cost]),
    ]


def _attribute(audit: Audit, attribute: str, place: int) -> Section:
    by_group, ranges = audit["by_group"][attribute], audit["intervals"][attribute].get("by_group", {})
    figures = []
    for rate, title in RATES.items():
        if not any(isinstance(block.get(rate), float) for block in by_group.values()):
            continue  # a regression, or of more than two classes, of which each is one against the rest
        values = {name: _estimate(block.get(rate), ranges.get(name, {}).get(rate)) for name, block in by_group.items()}
        drawn = [Bar(name, value, mean_of(value, ".2f")) for name, value in values.items()]
        rows: list[Cells] = [[name, interval(value, range_of=True)] for name, value in values.items()]
        figures.append(
            Figure(
                title,
                f"Bars of the {title.lower()} of each group of {attribute}, with intervals.",
                bars([(MODEL, drawn)], title.lower(), high=1.0),
                Table(f"{title} by {attribute}", ("group", title.lower()), rows),
            )
        )
    metrics: list[Cells] = [
        [name, number(value), _range(audit["intervals"][attribute].get(name))]
        for name, value in audit["metrics"][attribute].items()
    ]
    counts = audit["counts"][attribute]
    columns = list(dict.fromkeys(column for block in counts.values() for column in block))
    opened: list[Cells] = [[name, *(_count(block.get(column)) for column in columns)] for name, block in counts.items()]
    return Section(
        f"audit-{place}",
        f"Audit: {attribute}",
        METHOD,
        figures,
        [
            Table(f"Fairness metrics by {attribute}", ("metric", "value", "95 % interval"), metrics),
            Table(f"Counts that were opened, by {attribute}", ("group", *columns), opened),
        ],
        [] if all(None not in block.values() for block in counts.values()) else [_hidden(audit)],
    )


def _hidden(audit: Audit) -> str:
    least = audit["privacy"].get("min_group")
    return f"Not shown: counts below {least}, and those that would give one of them away."


def _count(value: float | None) -> str:
    return "not shown" if value is None else f"{value:,.6g}"


def _value(audit: Audit, attribute: str, name: str) -> str:
    ends = _range(audit["intervals"][attribute].get(name))
    text = number(audit["metrics"][attribute].get(name))
    return f"{text} ({ends})" if ends else text


def _range(ends: Any) -> str:
    if ends is None or ends[0] is None:
        return ""
    return f"{number(ends[0])} to " + ("any" if ends[1] is None else number(ends[1]))


def _estimate(value: float | None, ends: Any) -> Estimate | None:
    if value is None:
        return None
    low, high = ends if ends is not None else (None, None)
    return Estimate(value, low, high, 1)
