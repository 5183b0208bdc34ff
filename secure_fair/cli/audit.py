"""`secure-fair audit`: a fairness audit of any model's predictions; no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.cli.serving import PATH, auditor_options, config_option, served, set_option
from secure_fair.errors import InterruptedRunError

HEADLINES = (
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equal_opportunity_difference",
    "accuracy_score_difference",
    "accuracy_score_group_min",
)
MEANS = ("mean_prediction", "mean_absolute_error", "mean_squared_error")  # of a regression
SHOWN_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy_score")


@click.group(epilog="Example: secure-fair audit simulate --predictions p.csv --attributes a.csv --out audit")
def audit() -> None:
    """Audit a model's predictions by groups that only the auditor knows; no training.

    The developer brings id, label, and prediction or score (CSV or Parquet), the auditor its table of attributes.
    """
    from parties.links import watch_parent

    watch_parent()


def _comma(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",")) if value else ()


@audit.command(
    epilog="Example: secure-fair audit simulate --predictions p.parquet --attributes a.csv --threshold 0.5 --out audit"
)
@click.option("--predictions", type=PATH, required=True, help="The developer's table: id, label, prediction or score.")
@click.option("--attributes", type=PATH, required=True, help="The auditor's table: id and attributes.")
@click.option("--columns", callback=_comma, help="Attributes, comma-separated; A*B is an intersection. Default: all.")
@click.option("--policy", type=PATH, help="The auditor's policy; without one, exactly this audit is allowed.")
@click.option("--exact", is_flag=True, help="Exact counts, as for a frozen set of records; not with --policy.")
@click.option("--epsilon", type=float, help="Of one person's attributes, for noised counts. Default: 2.")
@click.option("--threshold", type=float, help="The column `score` from here on is the second class.")
@click.option("--classes", callback=_comma, help="All classes, comma-separated; default: those in the table.")
@click.option("--split", help="Only the rows of this `split`.")
@click.option("--bins", type=int, help="Calibration and score distributions by group, in so many bins of the score.")
@click.option("--range", "limits", type=(float, float), help="A regression: lowest and highest label or prediction.")
@click.option("--out", type=PATH, required=True, help="Folder of the audit; must not exist.")
@set_option
@console.json_option
def simulate(
    predictions: Path,
    attributes: Path,
    columns: tuple[str, ...],
    policy: Path | None,
    exact: bool,
    epsilon: float | None,
    threshold: float | None,
    classes: tuple[str, ...],
    split: str | None,
    bins: int | None,
    limits: tuple[float, float] | None,
    out: Path,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Developer, auditor and dealer as three processes on this machine; writes OUT/audit.json.

    Counts are noised, and small ones left out, unless --exact or the policy says otherwise.
    """
    from parties.audit_simulation import AuditSimulation, simulate_audit

    given: dict[str, dict[str, Any]] = {
        "audit": {
            "predictions": predictions,
            "threshold": threshold,
            "classes": classes,
            "split": split,
            "bins": bins,
            "range": limits,
        },
        "attributes": {"file": attributes, "columns": columns},
        "privacy": {"epsilon": epsilon},
    }
    base = settings.load(None, overrides).model_dump()
    for section, table in given.items():
        base[section] |= {key: value for key, value in table.items() if value not in (None, ())}
    effective = settings.parse(settings.Settings, base, "the options")
    try:
        report = simulate_audit(AuditSimulation(effective, out, policy, exact), console.warn)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; all three parties have been stopped") from None
    _show(report, out / "audit.json", as_json)


@audit.command(epilog="Example: secure-fair audit developer -c developer.toml --out audit/developer")
@config_option
@click.option("--out", type=PATH, required=True, help="Folder for audit.json and the log of what was opened.")
@click.option("--quiet", is_flag=True, help="Print no tables; audit.json has all.")
@set_option
@console.json_option
def developer(file: Path, out: Path, quiet: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Audit the table that `audit.predictions` names, with an auditor and a dealer on other hosts."""
    effective = settings.load(file, overrides)
    from parties.audit_developer import run_audit_developer
    from parties.leftovers import removed_if_refused

    try:
        with removed_if_refused(out, alone=True):
            report = run_audit_developer(effective, out)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command asks for an answer that was lost") from None
    if not quiet:
        _show(report, out / "audit.json", as_json)


@audit.command(epilog="Example: secure-fair audit auditor -c auditor.toml --policy policy.toml --out audit/auditor")
@auditor_options
def auditor(
    file: Path, policy_file: Path, out: Path, ledger: Path | None, serve: bool, overrides: tuple[str, ...]
) -> None:
    """Serve one audit within the policy, or with --serve one after another.

    The dealer is that of `secure-fair party dealer`.
    """
    effective = settings.load(file, overrides)
    from parties.audit_auditor import run_audit_auditor
    from secure_fair.privacy import policy

    with served(out, "the auditor was interrupted; what had been released is in its ledger", forever=serve):
        run_audit_auditor(effective, policy.load(policy_file), ledger or out / "ledger.sqlite", out, forever=serve)


@audit.command(epilog="Example: secure-fair audit freeze holdout.csv")
@click.argument("table", type=PATH)
@click.option("--split", help="Only the rows of this `split`.")
def freeze(table: Path, split: str | None) -> None:
    """Print the name of a set of records, for `audit_sets` in a policy: a digest of the ids in TABLE, in any order."""
    from secure_fair.audit.columns import read_ids

    click.echo(read_ids(table, split).digest())


def _show(report: dict[str, Any], file: Path, as_json: bool) -> None:
    privacy = report["privacy"]
    headlines = _shown(report)[1]
    nothing = [name for name, found in report["metrics"].items() if all(found[metric] is None for metric in headlines)]
    if nothing:
        more = "" if privacy["mode"] == "exact" else ", or ask for a larger privacy.epsilon, which needs less noise"
        console.warn(
            f"{', '.join(nothing)}: no fairness metric can be shown: each needs counts of every group, and those of "
            f"fewer than {privacy['min_group']} people (the policy's min_group) are left out; audit more records{more}"
        )
    if as_json:
        console.print_json(report)
        return
    for column in report["task"]["attributes"]:
        _print_attribute(report, column)
    if privacy["mode"] == "exact":
        click.echo("exact counts: no differential privacy for the people in these records")
    else:
        click.echo(
            f"noised counts: epsilon {privacy['epsilon']:g}, delta {privacy['delta']:g} for each person's attributes, "
            "if developer and dealer follow the protocol and do not collude"
        )
    cost = report["cost"]
    sent = cost["bytes_sent"] + cost["bytes_received"]
    click.echo(f"{cost['rows']} records, {cost['mpc_seconds']:.2f} s of secure computation, {sent} bytes")
    click.echo(f"wrote {file}")


def _print_attribute(report: dict[str, Any], column: str) -> None:
    groups, intervals = report["by_group"][column], report["intervals"][column]
    found = report["metrics"][column]
    blur = report.get("noise", {}).get(column, {})  # of a regression
    rates, headlines = _shown(report)
    rows = [
        (name, _number(row["count"], "{:.0f}"), *(_number(row[rate]) + _blur(blur, name, rate) for rate in rates))
        for name, row in groups.items()
    ]
    console.print_table(f"{column}: rates by group", ("group", "records", *rates), rows)
    lines = [(name, _number(found[name]), _range(intervals.get(name))) for name in headlines]
    console.print_table(f"{column}: fairness", ("metric", "value", "95 % interval"), lines)
    if any(value is None for row in report["counts"][column].values() for value in row.values()):
        click.echo(
            f"{column}: counts below {report['privacy']['min_group']}, or that would give one away, are left out"
        )


def _shown(report: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The rates by group and the metrics that are printed."""
    if report["task"]["range"] is not None:
        return MEANS, tuple(f"{mean}_{kind}" for mean in MEANS for kind in ("difference", "group_max"))
    return SHOWN_RATES if len(report["task"]["classes"]) == 2 else (
        "accuracy_score",
        "balanced_accuracy_score",
    ), HEADLINES


def _number(value: float | None, form: str = "{:.4f}") -> str:
    return "not shown" if value is None else form.format(value)


def _blur(noise: dict[str, dict[str, float | None]], group: str, mean: str) -> str:
    width = noise.get(group, {}).get(mean)
    return f" ± {width:.4f}" if width else ""


def _range(ends: list[float | None] | None) -> str:
    if ends is None or ends[0] is None:
        return ""
    return f"{ends[0]:.4f} to " + ("any" if ends[1] is None else f"{ends[1]:.4f}")
