"""The page: what it says, what it must not let a reader misunderstand, that nothing gets out of its place."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from secure_fair.cli.main import run
from secure_fair.errors import RunError
from secure_fair.fairness.methods import METHODS
from secure_fair.report import material, page, words
from secure_fair.report.arms import Arm
from secure_fair.report.palette import DARK, LIGHT, RELEASES
from secure_fair.settings import SENSITIVE
from tests.report.world import DEMO, comparison, demo_rows, run_files, seeded, shared

HOSTILE = "</style></svg><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{ 7*7 }}"
VOID = {"meta", "br", "img", "link", "hr"}


class Outline(HTMLParser):
    """Tags, headings, ids and text of a page; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []  # tables of rows of cells
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data + " "
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


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


def test_a_reused_release_is_bounded_by_what_it_has_cost(tmp_path: Path) -> None:
    """In the sentences, the table at a glance, the cards and the table of privacy; never epsilon 0."""
    rows = shared(demo_rows())
    found = material.load(comparison(tmp_path / "cmp", rows))
    text = " ".join(Outline(page.render(found)).text.split())
    assert "bounded by epsilon 0" not in text
    assert text.count("is bounded by epsilon 2,") == 2  # orth, moment and adv, moment
    (spent,) = [table for table in Outline(page.render(found)).tables if "counted" in table[0]]
    assert [row[1:3] + row[5:] for row in spent if "moment" in row[0]] == [
        ["2", "1e-05", "once for all seeds"],
        ["2", "1e-05", "once, as another arm\u2019s"],
    ]
    assert [row[1:3] for row in spent if "gradient" in row[0]] == [["no bound", "\u2013"]]
    assert [row[1:3] for row in spent if "randomized" in row[0]] == [["4", "2e-05"]]  # two releases, one a seed
    assert "together: epsilon 6 and delta 3e-05" in text
    rows[-1]["privacy"] = {"epsilon": 0.0, "delta": 0.0, "releases": 0, "reused": "runs/3"}  # of an older version
    with pytest.raises(RunError, match="does not say what the release it reuses has cost"):
        material.load(comparison(tmp_path / "old", rows))


def test_what_is_said_is_what_the_files_say(html: str) -> None:
    """Numbers of the committed demo, and those of the logs that the fixture wrote."""
    text = " ".join(Outline(html).text.split())
    assert "87.4% of the test records" in text
    assert "a value: opened 3 times, 105 numbers in all" in text  # 3 values of 5 by 7
    assert "every digit" in text  # secure gradient and its plaintext twin
    assert "named the attribute of 100.0% of the training people" in text
    assert "Intervals are 95 % over 3 seeds" in text


# (foreground, background, least ratio): 4.5 for text and 3 for marks, as WCAG 2.2 AA asks.
PAIRS = (
    *((text, ground, 4.5) for text in ("ink", "muted", "accent") for ground in ("page", "surface")),
    *((text, ground, 4.5) for text in ("ink", "danger") for ground in ("danger-surface", "surface")),
    *((text, ground, 4.5) for text in ("ink", "bounded") for ground in ("bounded-surface", "surface")),
    *(("on-mark", release, 4.5) for release in RELEASES),
    *((release, "surface", 3.0) for release in RELEASES),
)


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colours written as #rrggbb."""
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast_is_aa(colours: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK)
    for front, back, least in PAIRS:
        assert contrast(colours[front], colours[back]) >= least, (front, back)


def test_the_contrast_of_black_and_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


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


def test_an_unknown_release_counts_as_no_protection(tmp_path: Path) -> None:
    rows = demo_rows()
    rows[3]["release"] = "telepathy"
    text = page.render(material.load(comparison(tmp_path / "cmp", rows)))
    assert "A release that this report does not know" in text
    assert "orth, telepathy: a difference of" in text
    assert "no protection" in text.split("orth, telepathy: a difference of")[1][:300]


def test_a_bound_that_bounds_nothing_is_not_sold_as_one(tmp_path: Path) -> None:
    rows = demo_rows()
    bounded = page.render(material.load(comparison(tmp_path / "two", rows)))
    assert "bounded in name only" not in bounded
    assert rows[3]["release"] == "moment"
    rows[3]["privacy"]["epsilon"] = 1e5
    text = page.render(material.load(comparison(tmp_path / "large", rows)))
    assert "bounded in name only" in text
    told = text.split("orth, moment: a difference of")[1][:400]
    assert "Epsilon 100,000 rules out next to nothing: count the people as not protected." in told


def test_the_dealer_and_the_people_are_those_of_the_release(tmp_path: Path) -> None:
    """A predictor needs no dealer, and was made from nobody among the developer's people."""
    rows = [row for row in demo_rows() if row["release"] == "moment"]
    assert "Together with either other" in page.render(material.load(comparison(tmp_path / "moment", rows)))
    for row in rows:
        row["release"] = "predictor"
        row["leakage"]["attribute_recovery"] |= {"in_release": False, "bound": None}
    text = page.render(material.load(comparison(tmp_path / "predictor", rows)))
    assert "No dealer took part" in text
    assert "Together with either other" not in text
    assert "the release was made from none of them" in text
    assert "not in the release" in text


def test_every_release_that_there_is_has_a_reading() -> None:
    unknown = words.reading(Arm("orth", "telepathy", True, ()))
    for method in METHODS.values():
        for release in method.releases:
            found = words.reading(Arm(method.name, release, release != "none", ()))
            assert found is not unknown, (method.name, release)
            assert (found.severity == "bounded") is (release in ("moment", "randomized-response"))
            assert bool(found.assumption) is (found.severity == "bounded")
            assert release in (*RELEASES, "none")


def test_a_private_adapter_is_bounded_for_the_auditors_people_only() -> None:
    """By what the run has spent: without an epsilon it is what it was."""
    for release in SENSITIVE:
        private = words.reading(
            Arm("unl", release, True, ({"privacy": {"epsilon": 2.0, "delta": 1e-5, "releases": 1}},))
        )
        assert (private.severity, "auditor" in private.verdict) == ("bounded", True)
        assert "floating-point" in private.assumption
        assert (
            words.reading(
                Arm("unl", release, True, ({"privacy": {"epsilon": None, "delta": 1e-5, "releases": 1}},))
            ).severity
            == "exposed"
        )


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
