"""A whole secure run on one machine: policy, parties, summary."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parties.launch import Launch, run_parties
from parties.leftovers import removed_if_refused
from parties.moments import can_reuse, soft_arrays
from secure_fair.data.attributes import read_schema
from secure_fair.errors import RunError, SettingsError
from secure_fair.fairness import methods
from secure_fair.privacy import disclosures
from secure_fair.privacy.ledger import Ledger
from secure_fair.privacy.policy import Policy, load, simulated
from secure_fair.settings import Settings, parse
from secure_fair.training.run_folder import check_run_folder, read_table


@dataclass(frozen=True)
class Simulation:
    """What to simulate; `config` is the settings file that every party reads, `overrides` are applied to it."""

    settings: Settings
    config: Path
    overrides: tuple[str, ...]
    method: str
    release: str
    run: Path
    policy: Path | None = None
    resume: bool = False
    reuse: Path | None = None  # an earlier run whose private release serves this one too
    reference: Path | None = None  # an ERM run on the same data, for the floor of predictor leakage


def simulate(simulation: Simulation) -> dict[str, Any]:
    """Run three processes and write RUN/summary.json, which is returned.

    The launcher owns both sides' data, so it can compute group metrics. Raises RunError, SettingsError, DataError.
    """
    settings, run = simulation.settings, simulation.run
    method = methods.get(simulation.method)
    method.require_release(simulation.release)
    method.require_settings(settings)
    if settings.attributes.file is None:
        raise SettingsError("attributes.file is missing; it names the auditor's attributes.csv")
    if settings.attributes.alignment != "list":
        raise SettingsError(
            'attributes.alignment: a simulation holds both lists of ids and has nothing to hide; "list"'
        )
    earlier = None if simulation.reuse is None else _reused(simulation, simulation.reuse)
    check_run_folder(run, resume=simulation.resume)
    table = read_table(settings.attributes.file, settings.attributes.columns)
    policy = simulation.policy
    if policy is None:
        rules = own_policy(settings, simulation.release, settings.attributes.file.parent / "schema.json")
    else:
        load(policy)  # refused before there is a folder
    with removed_if_refused(run):
        (run / "auditor").mkdir(parents=True, exist_ok=True)
        if policy is None:
            policy = run / "auditor" / "policy.toml"
            policy.write_text(rules)
        _run(simulation, policy, method.name)
    from secure_fair.training.summary import write_summary  # loads torch: not before the parties are under way

    leakage = None
    if settings.privacy.store_values and simulation.release != "none" and simulation.reuse is None:
        from secure_fair.leakage.run import attack_run

        leakage = attack_run(run, table, settings.attributes.columns, simulation.reference, settings)
    cost = json.loads((run / "developer" / "cost.json").read_text())
    del cost["version"]
    return write_summary(
        run,
        method=method.name,
        release=simulation.release,
        arm="secure" if simulation.release != "none" else "plaintext",
        settings=settings,
        table=table,
        cost=cost,
        privacy=earlier or _privacy(run, settings, simulation.release),
        leakage=leakage,
    )


def _run(simulation: Simulation, policy: Path, method: str) -> None:
    """The parties, to their end."""
    settings, run = simulation.settings, simulation.run
    developer = run / "developer"
    reuse = None if simulation.reuse is None else simulation.reuse / "developer"
    if simulation.resume and can_reuse(settings, simulation.release, developer):
        reuse = developer
    alone = simulation.release == "none" or reuse is not None
    if not (simulation.resume and (developer / "cost.json").exists()):  # else only the summary is missing
        run_parties(
            Launch(
                run,
                simulation.config,
                simulation.overrides,
                policy,
                method,
                simulation.release,
                simulation.resume,
                reuse,
                alone,
            )
        )


def _reused(simulation: Simulation, earlier: Path) -> dict[str, Any]:
    """The block `privacy` of a run on the release of `earlier`: what that one has cost bounds what this one may show.

    Raises RunError when `earlier` does not say what it has cost, was about another release or other attributes, or has
    left no soft attributes.
    """
    try:
        found = json.loads((earlier / "summary.json").read_text())
        privacy, release, columns = dict(found["privacy"]), found["release"], found["config"]["attributes"]["columns"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{earlier}: no summary.json that says what its release has cost; name the folder of a finished "
            "`secure-fair simulate` or of an arm of `compare`"
        ) from None
    if "id" not in privacy:
        raise RunError(f"{earlier}: its summary does not name the release, so it is of an older version; run it again")
    for what, theirs, own in (
        ("release", release, simulation.release),
        ("attributes.columns", columns, list(simulation.settings.attributes.columns)),
    ):
        if theirs != own:
            raise RunError(f"{earlier}: its {what} was {theirs}, not {own}; reuse it for that, or leave --reuse out")
    soft_arrays(earlier / "developer", release, simulation.settings.attributes.columns)
    return {"reused": str(earlier), **privacy}  # of a run that has reused one itself: the first


def _privacy(run: Path, settings: Settings, release: str) -> dict[str, Any]:
    """What the most exposed person has spent by this run's ledger; an epsilon without bound is null.

    id: of what was released, at random, so that a sum over runs counts once what several of them have used.
    """
    if release == "none":
        return {"epsilon": 0.0, "delta": 0.0, "releases": 0}
    delta = settings.privacy.delta
    with Ledger(run / "auditor" / "ledger.sqlite", None) as ledger:
        epsilon = max(cost.epsilon(delta) for cost, _ in ledger.balances())
    opened = sum(1 for _ in disclosures.read(run / "developer"))
    return {"epsilon": epsilon, "delta": delta, "releases": opened, "id": secrets.token_hex(8)}


def own_policy(settings: Settings, release: str, schema: Path) -> str:
    """The policy of a simulation without one of its own: allows what was asked for, once.

    schema: schema.json, with the categories. Raises SettingsError naming it.
    """
    known = read_schema(schema)
    rules = {
        "releases": (release,),
        "epsilon": settings.privacy.epsilon,
        "delta": settings.privacy.delta,
        "categories": known.attributes,
        "person": known.person,
    }
    return simulated(parse(Policy, rules, str(schema)))
