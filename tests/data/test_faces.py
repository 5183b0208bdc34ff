"""Procedural faces: exact quotas, persons, overlap, layouts, and the same bytes from any number of workers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secure_fair.data import celeba, faces, portrait, utkface
from secure_fair.data.faces import FaceSettings
from secure_fair.errors import DataError


def _cells(settings: FaceSettings, split: str) -> Counter[tuple[int, int]]:
    chosen = [f.values for f in faces.population(settings) if f.split == split]
    return Counter((values[settings.attribute], values[settings.task]) for values in chosen)


def test_the_share_of_agreeing_faces_is_the_correlation() -> None:
    for split, n in (("train", 700), ("val", 100), ("test", 200)):
        cells = _cells(FaceSettings(count=1000, correlation=0.93), split)
        assert sum(cells.values()) == n
        assert cells[0, 0] + cells[1, 1] == pytest.approx(0.93 * n, abs=1)
        assert cells[1, 0] + cells[1, 1] == n // 2


def test_a_balanced_test_split_of_8000_faces_has_400_in_each_cell() -> None:
    settings = FaceSettings(count=8000, balanced_test=True)
    assert set(_cells(settings, "test").values()) == {400}
    assert _cells(settings, "train")[0, 1] == round(0.07 * 2800)


def test_a_three_valued_attribute_moves_the_task_linearly() -> None:
    cells = _cells(FaceSettings(count=3000, attribute="SkinTone", correlation=0.9), "train")
    shares = [cells[tone, 1] / (cells[tone, 0] + cells[tone, 1]) for tone in range(3)]
    assert shares == pytest.approx([0.1, 0.5, 0.9], abs=0.002)


def test_a_rare_task_keeps_its_rate_and_reaches_both_groups() -> None:
    cells = _cells(FaceSettings(count=20_000, task="Bald", correlation=0.8), "train")
    assert (cells[0, 1] + cells[1, 1]) / 14_000 == pytest.approx(0.025, abs=2e-4)
    assert cells[1, 1] / (cells[0, 1] + cells[1, 1]) == pytest.approx(0.8, abs=0.01)
    free = Counter(f.values["Male"] for f in faces.population(FaceSettings(count=4000)) if f.values["Bald"])
    assert min(free[0], free[1]) >= 20  # 50 expected of each


def test_a_person_stays_in_one_split_and_keeps_its_own_traits() -> None:
    of: dict[int, list[faces.Face]] = defaultdict(list)
    for face in faces.population(FaceSettings(count=500, images_per_person=4, task="Young")):
        of[face.person].append(face)
    assert max(len(own) for own in of.values()) == 4
    assert sorted(of) == list(range(len(of)))
    for own in of.values():
        for name in ("Male", "Young", "SkinTone", "Bald", "Wavy_Hair"):
            assert len({f.values[name] for f in own}) == 1, name
        assert len({(f.split, f.traits.age, f.traits.hair, f.traits.beard) for f in own}) == 1
    assert any(len({f.values["Smiling"] for f in own}) == 2 for own in of.values())


@pytest.mark.parametrize("overlap", [0.4, 0.8])
def test_the_overlap_of_smiles_gives_the_stated_error_of_the_best_threshold(overlap: float) -> None:
    settings = FaceSettings(count=6000, overlap=overlap)
    wrong = np.mean([(f.traits.smile > 0) != bool(f.values["Smiling"]) for f in faces.population(settings)])
    expected = 0.5 * math.erfc(1 / overlap / math.sqrt(2))
    # Four standard deviations of a share of 6,000: one false alarm in 16,000 seeds; the seed is fixed.
    assert wrong == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 6000))


def test_the_smile_moves_the_mouth_and_not_the_background() -> None:
    face = next(faces.population(FaceSettings(count=10)))

    def drawn(smile: float) -> np.ndarray[Any, Any]:
        traits = replace(face.traits, smile=smile, glasses=False, beard=False)
        image = portrait.draw(traits, np.random.default_rng(1), np.random.default_rng(2), (96, 96))
        return np.asarray(image, dtype=np.float64)

    change = np.abs(drawn(1.0) - drawn(-1.0)).mean(axis=2)
    assert change[55:80, 25:70].mean() > 5
    assert change[:30].max() == 0


def test_the_lists_say_what_was_drawn(celeba_root: Path) -> None:
    source = celeba.read(celeba_root)
    population = list(faces.population(FaceSettings(count=120, size=(32, 32), images_per_person=3, seed=5)))
    assert source.splits == tuple(face.split for face in population)
    assert source.persons == tuple(str(face.person + 1) for face in population)
    for name in faces.BASE_RATES:
        assert source.columns[name].codes.tolist() == [face.values[name] for face in population]
    tone = source.join("SkinTone", faces.SKIN_COLUMNS).columns["SkinTone"]
    assert tone.codes.tolist() == [face.values["SkinTone"] for face in population]
    with Image.open(source.images[0]) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (32, 32), "RGB")


def test_the_names_of_the_utkface_layout_say_what_was_drawn(tmp_path: Path) -> None:
    settings = FaceSettings(count=40, layout="utkface", task="Young", size=(32, 32))
    faces.draw(tmp_path / "utk", settings)
    source = utkface.read(tmp_path / "utk", (40,))
    drawn = Counter((1 - f.values["Male"], 1 - f.values["Young"]) for f in faces.population(settings))
    assert Counter(zip(source.columns["Gender"].codes, source.columns["Age"].codes, strict=True)) == drawn
    assert not source.skipped


def test_any_task_can_be_made_rare() -> None:
    cells = _cells(FaceSettings(count=20_000, rate=0.025, correlation=0.8), "train")
    assert cells[0, 1] == round(7000 * 0.05 * 0.2)
    assert cells[1, 1] == round(7000 * 0.05 * 0.8)
    for rate in (0.0, 0.6):
        with pytest.raises(DataError, match="above 0 and at most"):
            FaceSettings(rate=rate)


def test_shares_of_the_splits_and_a_rare_task() -> None:
    """16,800 of 24,000 test faces hold at least 200 bald ones of each sex, independent of it; training is biased."""
    settings = FaceSettings(count=24000, task="Bald", balanced_test=True, shares=(0.2, 0.1, 0.7))
    cells = Counter((f.split, f.values["Male"], f.values["Bald"]) for f in faces.population(settings))
    assert sum(count for (split, _, _), count in cells.items() if split == "test") == 16800
    assert cells["test", 0, 1] == cells["test", 1, 1] == 210
    assert cells["train", 1, 1] > 10 * cells["train", 0, 1] > 0
    with pytest.raises(DataError, match="add up to 1"):
        FaceSettings(shares=(0.5, 0.1, 0.1))


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    settings = FaceSettings(count=500, size=(32, 32))
    faces.draw(tmp_path / "one", settings)
    faces.draw(tmp_path / "two", replace(settings, workers=2))
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        faces.draw(tmp_path / "faces", FaceSettings(count=20, size=(32, 32)), stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(DataError, match="exists and is not empty"):
        faces.draw(tmp_path, FaceSettings(count=10, size=(32, 32)))
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"task": "Smile"}, "task 'Smile'"),
        ({"attribute": "Smiling"}, "another than the task"),
        ({"correlation": 1.2}, "correlation 1.2"),
        ({"layout": "utkface"}, "task 'Smiling'"),
        ({"layout": "utkface", "task": "Young", "balanced_test": True}, "balanced test"),
        ({"count": 3}, "count >= 10"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        FaceSettings(**wrong)
