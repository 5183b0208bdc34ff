"""An audit's page, from the audit room's own writer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_fair.audit.layout import Layout
from secure_fair.audit.result import Opened, attribute_result
from secure_fair.errors import RunError
from secure_fair.fairness.finite import finite
from secure_fair.report import material, page
from tests.report.outline import HOSTILE, Outline
from tests.report.world import comparison, demo_rows

COUNTS = np.array([[400.0, 40.0, 30.0, 330.0], [350.0, 90.0, 20.0, 340.0], [9.0, 1.0, 2.0, 3.0]])
NAMES = ("blue", "green", "grey")


def audit(mode: str = "noised", names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """Counts that a test chose, through the code that every audit goes through; the last group is not shown."""
    shown = np.ones_like(COUNTS, dtype=bool)
    shown[2] = False
    opened = Opened(COUNTS, shown, COUNTS.sum(axis=0), 2.0)
    found = attribute_result(opened, Layout(2), ("no", "yes"), names)
    report = {part: {"colour": value} for part, value in found.items()}
    privacy = {"mode": mode, "epsilon": 1.5 if mode == "noised" else None, "delta": 1e-5, "min_group": 20}
    cost = {"rows": 1615, "rounds": 1, "bytes_sent": 20, "bytes_received": 10, "mpc_seconds": 0.1}
    result: dict[str, Any] = finite({"version": 1, **report, "cost": cost, "privacy": privacy})
    return result


def rendered(folder: Path, found: dict[str, Any]) -> Outline:
    (folder / "audit.json").write_text(json.dumps(found))
    return Outline(page.render(material.load(folder)))


def test_an_audit_alone_has_a_page(tmp_path: Path) -> None:
    found = audit()
    outline = rendered(tmp_path, found)
    text = " ".join(outline.text.split())
    assert "Audit: fairness with respect to colour" in text
    value = found["metrics"]["colour"]["demographic_parity_difference"]
    low, high = found["intervals"]["colour"]["demographic_parity_difference"]
    assert f"demographic parity difference {value:.3f} ({low:.3f} to {high:.3f})" in text
    assert "not shown" in text
    assert "counts below 20" in text
    assert "bounded by epsilon 1.5" in text
    assert "nobody colludes with the dealer" in text
    assert len(outline.of("figure")) == 4


def test_exact_counts_are_called_unprotected(tmp_path: Path) -> None:
    text = rendered(tmp_path, audit("exact")).text
    assert "There is no differential privacy" in text
    assert "bounded by" not in text


def test_what_the_auditor_got_is_said_of_trainings_and_of_audits(tmp_path: Path) -> None:
    """A folder may have both; an exact audit's counts and the digest of the predictions are named."""

    def learned(outline: Outline) -> str:
        text = " ".join(outline.text.split())
        return text[text.index("The auditor learned") : text.index("The dealer learned")]

    (alone := tmp_path / "alone").mkdir()
    audited = learned(rendered(alone, audit("exact")))
    both = learned(rendered(comparison(tmp_path / "cmp", demo_rows()), audit("exact")))
    trained = learned(Outline(page.render(material.load(comparison(tmp_path / "other", demo_rows())))))
    assert "every count under the developer\u2019s noise" in audited
    assert "a salted digest of the predictions" in audited
    assert "it was sent was masked" not in audited
    assert "it was sent was masked" in trained
    assert "digest" not in trained
    assert both == trained + audited.removeprefix("The auditor learned ")


def test_an_unknown_kind_counts_as_unprotected(tmp_path: Path) -> None:
    assert "does not know" in rendered(tmp_path, audit("psychic")).text


def test_names_of_groups_stay_text(tmp_path: Path) -> None:
    outline = rendered(tmp_path, audit(names=(HOSTILE, "b", "c")))
    assert not {"script", "img"} & {tag for tag, _ in outline.tags}


def test_an_audit_joins_a_comparison(tmp_path: Path) -> None:
    text = rendered(comparison(tmp_path / "cmp", demo_rows()), audit()).text
    assert "Comparison: fairness with respect to Male" in text
    assert "Audit of 1,615 predictions by colour" in text


def test_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run the audit again"):
        rendered(tmp_path, audit() | {"version": 2})
