"""The page: what it says, what it must not let a reader misunderstand, that nothing gets out of its place."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secure_fair.cli.main import run
from secure_fair.errors import RunError
from secure_fair.report import material, page
from tests.report.outline import HOSTILE, Outline
from tests.report.world import DEMO, comparison, demo_rows, run_files, seeded


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = comparison(tmp_path_factory.mktemp("page"), seeded(demo_rows(), 3))
    return page.render(material.load(folder))


def test_the_page_is_well_formed_and_its_headings_descend(html: str) -> None:
    found = Outline(html)
    assert found.of("html") == [{"lang": "en"}]
    assert found.headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(found.headings))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in found.of("a"):
        assert (link["href"] or "").removeprefix("#") in ids


def test_every_drawing_has_a_text_alternative_and_a_table(html: str) -> None:
    found = Outline(html)
    drawings = [svg for svg in found.of("svg") if svg.get("aria-hidden") != "true"]
    ids = {attributes.get("id") for _, attributes in found.tags}
    assert len(drawings) == len(found.of("figure")) >= 10
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set((drawing["aria-labelledby"] or "").split()) <= ids
    for figure in re.findall(r"<figure.*?</figure>", html, re.DOTALL):
        assert "<desc" in figure
        assert "<table" in figure
        assert "<caption>" in figure


def test_the_key_of_curves_draws_each_as_it_is_drawn(html: str) -> None:
    """In the order of the key: colour, width and dashes; no two lines of a drawing look alike."""
    figures = [figure for figure in re.findall(r"<figure.*?</figure>", html, re.DOTALL) if 'class="line' in figure]
    assert len(figures) == 2
    for figure in figures:
        key, drawing = figure.split('<svg role="img"')
        looks = [re.findall(r'<polyline (class="line[^>]*?) points', part) for part in (key, drawing)]
        assert looks[0] == looks[1]
        assert len(set(looks[0])) == len(re.findall('class="badge', key)) == len(looks[0]) >= 4


def test_nothing_is_fetched_and_nothing_runs(html: str) -> None:
    found = Outline(html)
    assert not {"script", "img", "link", "iframe", "object", "form"} & {tag for tag, _ in found.tags}
    assert not any(name in attributes for _, attributes in found.tags for name in ("src", "style", "onload", "onclick"))
    assert not re.search(r"https?://|url\((?!#)|@import", html)
    (policy,) = [m["content"] for m in found.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_gradient_cannot_be_misunderstood(html: str) -> None:
    text = " ".join(Outline(html).text.split())
    assert "The developer can read every attribute of the training data" in text
    assert "orth, gradient: a difference of" in text
    said = text[text.index("orth, gradient: a difference of") :]
    assert "no protection" in said[:400]
    assert "epsilon: no bound" in text


def test_a_bound_is_never_said_without_its_assumption(html: str) -> None:
    text = " ".join(Outline(html).text.split())
    sentences = [s for s in re.split(r"(?<=[.]) (?=[A-Z])", text) if "is bounded by" in s]
    assert len(sentences) >= 4
    for sentence in sentences:
        assert "nobody colludes" in sentence or "whatever developer and dealer do" in sentence, sentence


def test_what_is_said_is_what_the_files_say(html: str) -> None:
    """Numbers of the committed demo, and those of the logs that the fixture wrote."""
    text = " ".join(Outline(html).text.split())
    assert "87.4% of the test records" in text
    assert "a value: opened 3 times, 105 numbers in all" in text  # 3 values of 5 by 7
    assert "every digit" in text  # secure gradient and its plaintext twin
    assert "named the attribute of 100.0% of the training people" in text
    assert "Intervals are 95 % over 3 seeds" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    rows = demo_rows()
    for row in rows:
        row["config"]["attributes"]["columns"] = [HOSTILE]
        row["metrics"]["by_group"] = {HOSTILE + name: block for name, block in row["metrics"]["by_group"].items()}
        row["config"][HOSTILE] = HOSTILE
        row["commit"] = HOSTILE
    rows[1] |= {"method": HOSTILE}
    rows[2] |= {"release": HOSTILE}
    rows[3]["leakage"]["attribute_recovery"]["attack"] = HOSTILE
    rows[3]["versions"] = {HOSTILE: HOSTILE}
    found = page.render(material.load(comparison(tmp_path / "cmp", rows)))
    outline = Outline(found)
    assert not {"script", "img"} & {tag for tag, _ in outline.tags}
    assert len(outline.of("style")) == 1
    assert "alert(1)" in outline.text
    assert "{{ 7*7 }}" in outline.text


def test_a_comparison_without_its_runs_has_no_curves() -> None:
    """The committed demo is compare.json alone."""
    text = page.render(material.load(DEMO))
    assert "Training curves" not in text
    assert "Utility and bias" in text


def test_runs_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    rows = demo_rows()
    folder = comparison(tmp_path / "cmp", rows)
    run_files(tmp_path / "elsewhere", rows[0])
    table = json.loads((folder / "compare.json").read_text())
    for row in table["rows"]:
        row["run"] = "../elsewhere"
    (folder / "compare.json").write_text(json.dumps(table))
    assert material.load(folder).curves == {}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_single_run_has_a_page(tmp_path: Path, number: int) -> None:
    row = demo_rows()[number]
    run_files(tmp_path / "run", row, shift=1)
    (tmp_path / "run" / "summary.json").write_text(json.dumps(row))
    written = page.write(tmp_path / "run")
    found = Outline(written.read_text())
    assert "Run: fairness with respect to Male" in found.text
    assert ("Privacy spent" in found.text) is (row["arm"] == "secure")


def test_an_experiment_has_a_page_pair_by_pair(tmp_path: Path) -> None:
    rows = [
        row | {"pair": pair, "weight": 1.0} for pair in ("Smiling by Male", HOSTILE) for row in seeded(demo_rows(), 2)
    ]
    (tmp_path / "results.json").write_text(json.dumps({"version": 1, "rows": rows}))
    found = Outline(page.render(material.load(tmp_path)))
    assert "Experiment: 2 pairs of task and attribute" in found.text
    assert "Smiling by Male: Utility and bias" in found.text
    erm, *others = (row["metrics"]["equalized_odds_difference"] + 0.005 for row in demo_rows())
    assert f"Smiling by Male: without fairness a difference of {erm:.3f}" in found.text
    assert f"{min(others[0], others[1]):.3f}" in found.text
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "script" not in {tag for tag, _ in found.tags}


def test_a_run_without_attributes_has_a_page(tmp_path: Path) -> None:
    row: dict[str, Any] = demo_rows()[0]
    row["metrics"] = {name: row["metrics"][name] for name in ("accuracy", "balanced_accuracy", "auc")}
    row["config"]["attributes"]["columns"] = []
    (tmp_path / "summary.json").write_text(json.dumps(row))
    assert "there is no group metric" in page.render(material.load(tmp_path))


def test_more_classes_have_a_page(tmp_path: Path) -> None:
    row = demo_rows()[1]
    for block in row["metrics"]["by_group"].values():
        for rate in ("true_positive_rate", "false_positive_rate", "selection_rate"):
            block[rate] = [0.125, 0.25, None]
        block["positives"] = [1, 2, 3]
    (tmp_path / "summary.json").write_text(json.dumps(row))
    text = page.render(material.load(tmp_path))
    assert "Bars of the accuracy" in text
    assert "Bars of the true positive rate" not in text
    assert "0.125 / 0.250 / \u2013" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.json", "{}", "no compare.json, summary.json, results.json or audit.json"),
        ("compare.json", "{", "cannot be read as JSON"),
        ("compare.json", "[]", "no JSON object"),
        ("compare.json", '{"rows": []}', "no results yet"),
        ("summary.json", '{"version": 99}', "version 99"),
        ("summary.json", '{"version": 1}', "without method, release"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=re.escape(message)):
        page.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = comparison(tmp_path / "cmp", demo_rows())
    assert run(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert run(["report", str(folder), "--out", str(tmp_path / "page.html"), "--json"]) == 0
    _, _, printed = capsys.readouterr().out.partition("\n")
    assert json.loads(printed) == {"report": str(tmp_path / "page.html")}
    assert (tmp_path / "page.html").read_text() == (folder / "report.html").read_text()
    assert run(["report", str(tmp_path / "nothing")]) == 1
    assert "no compare.json" in capsys.readouterr().err


def test_a_page_without_attacks_names_the_setting_that_keeps_what_they_need(tmp_path: Path, html: str) -> None:
    rows = demo_rows()
    for row in rows[2:]:
        row["config"]["privacy"]["store_values"] = False
        del row["leakage"]
    made = page.render(material.load(comparison(tmp_path, rows)))
    assert "Leakage, not measured" in made
    assert "set privacy.store_values = true" in made
    assert "set privacy.store_values" not in html


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    made = page.render(material.load(comparison(tmp_path, seeded(demo_rows(), 2))))
    assert "2 seeds are too few for an interval" in made
    assert "95 % over" not in made
