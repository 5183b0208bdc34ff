"""Sections on what models do: utility against bias, rates by group, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secure_fair.report import words
from secure_fair.report.arms import BIAS, METRICS, UTILITY, Arm, reference, twin
from secure_fair.report.charts.common import Key
from secure_fair.report.charts.lines import lines
from secure_fair.report.charts.scatter import Point, scatter
from secure_fair.report.figures import Cells, Figure, Section, Table, interval, keys, mean_of, number
from secure_fair.report.material import Material
from secure_fair.report.statistics import over_seeds, pareto

CURVES = {"task_loss": ("Task loss", None), "fairness_value": ("Fairness value", 1e-4)}
DIFFERENCES = {BIAS: "equalized odds difference", "demographic_parity_difference": "demographic parity difference"}
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "worst_group_accuracy": "worst group",
    "demographic_parity_difference": "dem. parity diff.",
    "true_positive_rate_difference": "TPR diff.",
    "false_positive_rate_difference": "FPR diff.",
    "equalized_odds_difference": "eq. odds diff.",
}


def glance(material: Material) -> Table:
    """The arms in one small table."""
    arms = material.arms
    erm, named = reference(arms), keys(arms)
    rows: list[Cells] = []
    for arm in arms:
        change = None if erm is None or erm is arm else arm.minus(erm, BIAS)
        plaintext = twin(arm, arms)
        ratio = None if plaintext is None else arm.overhead(plaintext)
        rows.append(
            [
                named[arm.name],
                interval(arm.metric(UTILITY)),
                interval(arm.metric(BIAS)),
                interval(change, "+.3f"),
                words.reading(arm).verdict,
                "none" if arm.secure and arm.epsilon is None else number(arm.epsilon, ".3g"),
                interval(ratio, ".2f"),
            ]
        )
    columns = (
        "arm",
        "accuracy",
        "eq. odds diff.",
        "minus ERM",
        "training attributes",
        "epsilon",
        "time \u00f7 plaintext",
    )
    return Table("At a glance", columns, rows)


def tradeoff(material: Material) -> Section:
    """Utility against bias, with the Pareto front, and all metrics."""
    arms = material.arms
    named = keys(arms)
    columns = ["arm", *(NAMES[name] for name in METRICS)]
    rows: list[Cells] = [[named[arm.name], *(interval(arm.metric(name)) for name in METRICS)] for arm in arms]
    pictures = [_scatter(arms, named, bias, name) for bias, name in DIFFERENCES.items()]
    return Section(
        "tradeoff",
        "Utility and bias",
        "Equalized odds difference is the larger gap between groups in true or in false positive rates on the test "
        "split; accuracy is the share of test records that the model gets right.",
        [picture for picture in pictures if picture is not None],
        [Table("All metrics, test split", columns, rows), *_differences(arms, named)],
    )


def _scatter(arms: Sequence[Arm], named: Mapping[str, Key], metric: str, name: str) -> Figure | None:
    """Accuracy against one kind of bias, where there are arms to compare."""
    points = [
        Point(named[arm.name], bias, utility)
        for arm in arms
        if (bias := arm.metric(metric)) is not None and (utility := arm.metric(UTILITY)) is not None
    ]
    if len(points) < 2:
        return None
    front = pareto([(point.utility.mean, point.bias.mean) for point in points])
    best = ", ".join(points[index].key.letter for index in front)
    rows: list[Cells] = [
        [point.key, interval(point.utility), interval(point.bias), "yes" if place in front else "no"]
        for place, point in enumerate(points)
    ]
    return Figure(
        f"Accuracy against {name}",
        f"Scatter of accuracy against {name} of {len(points)} arms. Pareto front: {best}.",
        scatter(points, front, f"{name} (0 is fair)", "accuracy"),
        Table(f"Accuracy against {name}", ("arm", "accuracy", name, "on the Pareto front"), rows),
        f"Up and to the left is better. The dashed line joins the arms that no other one beats in both: {best}.",
    )


def _differences(arms: Sequence[Arm], named: Mapping[str, Key]) -> list[Table]:
    """Paired differences, where there is something to pair."""
    erm = reference(arms)
    rows: list[Cells] = []
    for arm in arms:
        for other, what in ((erm, "ERM"), (twin(arm, arms), "plaintext twin")):
            if other is not None and other is not arm:
                cells = [interval(arm.minus(other, name), "+.3f") for name in (UTILITY, "worst_group_accuracy", BIAS)]
                rows.append([named[arm.name], f"minus {what}", *cells])
    columns = ("arm", "", "accuracy", "worst group", "eq. odds diff.")
    return [Table("Paired differences, seed by seed", columns, rows)] if rows else []


def curves(material: Material) -> Section | None:
    """Task loss and fairness value of the first seed, plaintext and secure arms of a method over each other."""
    arms = material.arms
    named = keys(arms)
    figures = []
    there = [(arm, material.curves[n]) for arm in arms if (n := material.of_arm(arm)[0]) in material.curves]
    methods = [name for name in dict.fromkeys(arm.method for arm, _ in there) if name != "erm"] or ["erm"]
    for method in methods:
        # ERM comes last: it has no term, so only its task loss can be compared.
        own = [(named[arm.name], steps) for arm, steps in there if arm.method == method]
        own += [(named[arm.name], steps) for arm, steps in there if arm.method == "erm" != method]
        for column, (title, knee) in CURVES.items():
            drawn = [(key, steps["step"], steps[column]) for key, steps in own if any(steps.get(column, ()))]
            if not drawn:
                continue
            letters = ", ".join(key.letter for key, _, _ in drawn)
            figures.append(
                Figure(
                    f"{title}, {method}",
                    f"Curves of the {title.lower()} over training steps for the arms {letters}.",
                    lines(drawn, "step", title.lower(), knee=knee),
                    _epochs(f"{title} of {method}: means of epochs", column, own),
                )
            )
    if not figures:
        return None
    return Section(
        "curves",
        "Training curves",
        "The first seed of each arm. The thick light line is the first of the key, in a comparison the plaintext "
        "arm: a secure arm that equals it lies inside. The thin ones are told apart by their dashes. A private "
        "release trains on soft attributes, so its fairness value measures those.",
        figures,
    )


def _epochs(caption: str, column: str, own: Sequence[tuple[Key, Mapping[str, Sequence[float]]]]) -> Table:
    epochs = list(dict.fromkeys(int(epoch) for _, steps in own for epoch in steps["epoch"]))
    rows: list[Cells] = []
    for key, steps in own:
        means = [
            over_seeds(v for v, e in zip(steps[column], steps["epoch"], strict=True) if int(e) == epoch)
            for epoch in epochs
        ]
        rows.append([key, *(mean_of(m, ".4g") for m in means)])
    return Table(caption, ("arm", *(f"epoch {epoch}" for epoch in epochs)), rows)
