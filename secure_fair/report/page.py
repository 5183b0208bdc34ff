"""One HTML file from a folder's results: no script, no request, nothing that is not in the file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from secure_fair import __version__
from secure_fair.errors import RunError
from secure_fair.files import write_text
from secure_fair.report import accounts, audit, groups, material, results, words
from secure_fair.report.arms import Arm
from secure_fair.report.figures import Section, keys
from secure_fair.report.material import Material
from secure_fair.report.palette import DARK, LIGHT, RELEASES
from secure_fair.report.statistics import epsilon_text

FILE = "report.html"


def write(folder: Path, out: Path | None = None) -> Path:
    """Write the report of DIR, by default as DIR/report.html, and return its place. Raises RunError."""
    target = folder / FILE if out is None else out
    text = render(material.load(folder))
    try:
        write_text(target, text)
    except OSError as error:
        raise RunError(f"{target}: the report could not be written ({error.strerror})") from None
    return target


def render(found: Material) -> str:
    """The page. Everything that comes from files is escaped."""
    environment = Environment(
        loader=PackageLoader("secure_fair.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = environment.get_template("style.css").render(light=LIGHT, dark=DARK, releases=RELEASES)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        style=Markup(style),  # noqa: S704 our own template, filled with our own colours
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        title=_title(found),
        name=found.source.resolve().name,
        version=__version__,
        sections=_sections(found),
        **_overview(found),
    )


def _title(found: Material) -> str:
    if found.pairs:
        return f"Experiment: {len(found.pairs)} pair{'s' if len(found.pairs) > 1 else ''} of task and attribute"
    about = ", ".join(found.attributes or (found.audit or {}).get("metrics", ()))
    kind = "Comparison" if len(found.rows) > 1 else "Run" if found.rows else "Audit"
    return f"{kind}: fairness with respect to {about}" if about else kind


def _overview(found: Material) -> dict[str, Any]:
    arms = found.arms
    named = keys(arms)
    readings: dict[words.Reading, list[Arm]] = {}
    for arm in arms:
        readings.setdefault(words.reading(arm), []).append(arm)
    cards = [
        {"reading": reading, "secure": own[0].secure, "arms": [(named[arm.name], _facts(found, arm)) for arm in own]}
        for reading, own in readings.items()
    ]
    told = [(None, words.of_pair(name, pair.arms)) for name, pair in found.pairs.items()] or words.lead(arms)
    summary = [(None if arm is None else named[arm.name], text) for arm, text in told]
    if found.audit is not None:
        summary += [(audit.MODEL, text) for text in audit.lead(found.audit)]
        cards.append({"reading": audit.reading(found.audit), "secure": True, "arms": [(audit.MODEL, [])]})
    return {
        "arms": [*named.values(), *([] if found.audit is None else [audit.MODEL])],
        "summary": summary,
        "glance": results.glance(found) if arms and not found.pairs else None,
        "cards": [card for card in cards if card["secure"]],
        "plain_cards": [card for card in cards if not card["secure"]],
        "auditor": [*([words.AUDITOR] if arms else []), *([] if found.audit is None else [words.AUDIT_AUDITOR])],
        "dealer": words.dealer(arms, audited=found.audit is not None),
        "everybody": words.EVERYBODY,
    }


def _facts(found: Material, arm: Arm) -> list[str]:
    """What the log, the account and the attacks say of one secure arm."""
    if not arm.secure:
        return []
    opened = next((own for n in found.of_arm(arm) if (own := found.opened.get(n))), ())
    attack = words.recovered(arm)
    epsilon = "epsilon: no bound" if arm.epsilon is None else f"epsilon per person: {epsilon_text(arm.epsilon)}"
    return [*words.opened(opened), epsilon, *([attack] if attack else [])]


def _sections(found: Material) -> Sequence[Section]:
    audited = [] if found.audit is None else audit.sections(found.audit)
    if not found.rows:
        return audited
    if found.pairs:
        return [*_of_pairs(found), accounts.settings(found)]
    made = [
        results.tradeoff(found),
        *groups.sections(found),
        results.curves(found),
        accounts.privacy(found),
        accounts.leakage(found),
        accounts.cost(found),
        *audited,
        accounts.settings(found),
    ]
    return [section for section in made if section is not None]


def _of_pairs(found: Material) -> list[Section]:
    """Utility and bias, and the groups, of each pair of an experiment."""
    return [
        replace(section, anchor=f"pair-{place}-{section.anchor}", title=f"{name}: {section.title}")
        for place, (name, pair) in enumerate(found.pairs.items())
        for section in (results.tradeoff(pair), *groups.sections(pair))
    ]
