"""Sections on what a result costs: privacy, leakage, bytes and seconds; and on what made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_fair.report.arms import UNKEPT, Arm, field, step_seconds, together, twin, unkept
from secure_fair.report.charts.bars import Bar, bars
from secure_fair.report.charts.dots import Dot, dots
from secure_fair.report.figures import Cells, Figure, Section, Table, interval, keys, mean_of, number, plain
from secure_fair.report.material import Material
from secure_fair.report.statistics import epsilon_text

DOTS = {
    "after": "after the run",
    "before": "before: the best guess without it",
    "floor": "floor: the change of the model\u2019s scores alone",
}


def privacy(material: Material) -> Section | None:
    """Epsilon of the most exposed person against the policy's budget."""
    secure = [arm for arm in material.arms if arm.secure]
    if not secure:
        return None
    named, drawn = keys(material.arms), []
    rows: list[Cells] = []
    for arm in secure:
        policy = next((material.policies[n] for n in material.of_arm(arm) if material.policies.get(n)), {})
        budget, epsilon = policy.get("epsilon"), arm.epsilon
        opened = arm.over_seeds(lambda row: field(row, "privacy", "releases"))
        text = "no bound" if epsilon is None else epsilon_text(epsilon)
        value = None if epsilon is None else plain(epsilon)
        drawn.append((named[arm.name], [Bar("", value, text, budget, unbounded=epsilon is None)]))
        rows.append(
            [
                named[arm.name],
                text,
                number(None if arm.spent is None else arm.spent.delta, "g"),
                number(budget, "g"),
                mean_of(opened, ".4g"),
                _counted(arm),
            ]
        )
    columns = ("arm", "epsilon", "delta", "budget", "opened", "counted")
    table = Table("Privacy spent by the most exposed person", columns, rows)
    figure = Figure(
        "Epsilon spent per person",
        "Bars of the epsilon that the most exposed person has spent, with the policy\u2019s budget as a mark.",
        bars(drawn, "epsilon"),
        table,
        "The mark is the budget of the auditor\u2019s policy. A hatched bar has no bound.",
    )
    total = together(secure)
    notes = []
    if total is not None and len(secure) > 1:
        notes.append(
            f"All arms with a bound together: epsilon {epsilon_text(total.epsilon)} and delta {total.delta:g}, "
            f"by basic composition, for {total.releases} released values, each counted once however many trainings "
            "it serves."
        )
    return Section(
        "privacy",
        "Privacy spent",
        "Epsilon bounds what one person\u2019s row of attributes can change in what the developer receives; smaller is "
        "more private. The same epsilon is not the same protection under two releases: moment bounds a guess about one "
        "person in a sum over all, randomized response hands over each person\u2019s own flipped answer.",
        [figure],
        notes=notes,
    )


def _counted(arm: Arm) -> str:
    if not arm.reused:
        return "each seed"
    own = any("reused" not in row["privacy"] for row in arm.rows)
    return "once for all seeds" if own else "once, as another arm\u2019s"


def _bound(recovery: Mapping[str, Any]) -> str:
    if not recovery.get("in_release", True):
        return "not in the release"
    return "none" if recovery["bound"] is None else number(recovery["bound"])


def leakage(material: Material) -> Section | None:
    """Attacks: who is in the data against who is not, and prediction before against after."""
    attacked = [arm for arm in material.arms if field(arm.rows[0], "leakage", "attribute_recovery") is not None]
    hint = [UNKEPT] if unkept(material.rows) else []
    if not attacked:
        return Section("leakage", "Leakage, not measured", "No attack ran on these runs.", notes=hint) if hint else None
    named, gains, aucs = keys(material.arms), [], []
    rows: list[Cells] = []
    for arm in attacked:
        block = arm.rows[0]["leakage"]  # of the first seed: intervals are those of its people
        recovery, inside, predictor = block["attribute_recovery"], block["in_minus_out"], block["predictor"]
        gain = [Dot("after", inside["difference"], inside["low"], inside["high"])]
        gains.append((named[arm.name], [dot for dot in gain if dot.value is not None]))
        found = {"before": predictor["prior_auc"], "floor": block.get("floor_auc"), "after": predictor["auc"]}
        aucs.append((named[arm.name], [Dot(kind, value) for kind, value in found.items() if value is not None]))
        rows.append(
            [
                named[arm.name],
                recovery["attack"],
                number(recovery["accuracy"]),
                number(recovery["auc"]),
                f"{number(inside['difference'], '+.3f')} ({number(inside['low'])} to {number(inside['high'])})",
                _bound(recovery),
                *(number(found[kind]) for kind in ("after", "before", "floor")),
            ]
        )
    columns = (
        "arm",
        "best attack",
        "recovered",
        "AUC",
        "in minus out",
        "bound",
        "predictor AUC",
        "before the run",
        "floor",
    )
    table = Table("Attacks on what was opened", columns, rows)
    return Section(
        "leakage",
        "Leakage, measured",
        "Attacks ran on what the developer received. A predictor that is right about people inside and outside of the "
        "data alike has learned about the population, which no release can hide; what being in the data costs a person "
        "is the difference.",
        [
            Figure(
                "In the data minus outside",
                "Dots with intervals: accuracy of the best attack on people in the data minus people outside, by arm.",
                dots(gains, "accuracy, in minus out", zero=True),
                table,
                "95 % intervals (Newcombe, stratified). Touching the line at zero: being in the data cost nothing that "
                "this attack can show.",
            ),
            Figure(
                "Predicting people outside of the data",
                "Dots: AUC of predicting the attribute before the run, after it, and of the floor, by arm.",
                dots(aucs, "AUC (0.5 is guessing)", zero=False),
                table,
                "",
                [(kind, DOTS[kind]) for kind in ("before", "floor", "after")],
            ),
        ],
        notes=["An attack that fails proves nothing; the guarantee, where there is one, is the epsilon above.", *hint],
    )


def cost(material: Material) -> Section:
    """Bytes against their floor, seconds, rounds."""
    arms = material.arms
    named = keys(arms)
    rows: list[Cells] = []
    sent = [(arm, total) for arm in arms if arm.secure and (total := _megabytes(arm)) is not None]
    for arm in arms:
        plaintext = twin(arm, arms)

        def mean(name: str, form: str, scale: float = 1.0, arm: Arm = arm) -> str:
            found = arm.over_seeds(lambda row: field(row, "cost", name))
            return number(None if found is None else found.mean * scale, form)

        rows.append(
            [
                named[arm.name],
                mean("steps", ".0f"),
                mean("rounds_per_step", ".3g"),
                number(_megabytes(arm), ".2f"),
                mean("floor_bytes", ".2f", 1e-6),
                mean("offline_bytes", ".2f", 1e-6),
                mean("mpc_seconds", ".2f"),
                mean("exposed_seconds", ".2f"),
                interval(arm.over_seeds(step_seconds), ".3f"),
                interval(None if plaintext is None else arm.overhead(plaintext), ".2f"),
                mean("total_seconds", ".1f"),
            ]
        )
    columns = (
        "arm",
        "steps",
        "rounds",
        "MB online",
        "MB floor",
        "MB from dealer",
        "secure s",
        "waited s",
        "s a step",
        "times plaintext",
        "s in all",
    )
    table = Table("Cost", columns, rows)
    times = [(named[arm.name], [Bar("", e, number(e.mean))]) for arm in arms if (e := arm.over_seeds(step_seconds))]
    figures = [
        Figure(
            "Seconds of a training step",
            "Bars of the seconds of a training step, by arm.",
            bars(times, "seconds"),
            table,
        )
    ]
    if any(total for _, total in sent):
        drawn = [(named[a.name], [Bar("", plain(t), number(t, ".3g"), _floor(a))]) for a, t in sent]
        figures.insert(
            0,
            Figure(
                "Bytes on the wire against the floor",
                "Bars of the megabytes between developer and auditor, by secure arm, with the floor as a mark.",
                bars(drawn, "MB, both directions"),
                table,
                "The mark is the least that the protocol\u2019s inputs and outputs could take.",
            ),
        )
    return Section(
        "cost",
        "Cost",
        "Rounds are per training step for gradient and per release for the private ones. Bytes are those of frames "
        "between developer and auditor. Seconds were measured on one machine, once a seed: two times that differ by a "
        "few percent are equal.",
        figures,
    )


def _megabytes(arm: Arm) -> float | None:
    sent, received = (arm.over_seeds(lambda row, n=n: field(row, "cost", n)) for n in ("bytes_sent", "bytes_received"))  # type: ignore[misc]
    return None if sent is None or received is None else (sent.mean + received.mean) / 1e6


def _floor(arm: Arm) -> float | None:
    found = arm.over_seeds(lambda row: field(row, "cost", "floor_bytes"))
    return None if found is None else found.mean / 1e6


def settings(material: Material) -> Section:
    """Effective settings, where all arms share them and where they do not; versions and commits."""
    arms = material.arms
    flat = [_leaves(row["config"]) for row in material.rows]
    names = list(dict.fromkeys(name for own in flat for name in own))
    rows = []
    for name in names:
        values = list(dict.fromkeys(own.get(name, "\u2013") for own in flat))
        rows.append([name, values[0] if len(values) == 1 else "differs: " + ", ".join(values)])
    versions = material.environment.get("versions") or material.rows[0].get("versions") or {}
    made = [[str(name), str(version)] for name, version in versions.items()]
    made += [
        [key, str(material.environment[key])] for key in ("command", "machine", "cores") if key in material.environment
    ]
    commits = dict.fromkeys(str(row.get("commit") or "unknown") for row in material.rows)
    made.append(["commit", ", ".join(commits)])
    seeds = sorted({row["seed"] for row in material.rows})
    return Section(
        "settings",
        "Settings and versions",
        f"{len(arms)} arm{'s' if len(arms) != 1 else ''}, seed{'s' if len(seeds) != 1 else ''} "
        f"{', '.join(map(str, seeds))}.",
        tables=[
            Table("Versions", ("what", "version"), made, words=True),
            Table("Settings", ("key", "value"), rows, words=True),
        ],
    )


def _leaves(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = "not set" if value in (None, [], {}) else str(value)
    return found
