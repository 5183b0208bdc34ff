"""Prepared folders: each party gets its own, and no name, date, order or metadata tells what belongs to the other."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from secure_fair.data import celeba, prepare, utkface
from secure_fair.data.prepare import PrepareSettings
from secure_fair.data.source import Source
from secure_fair.errors import DataError

SKIN = {"SkinTone": ("Pale_Skin", "Medium_Skin", "Dark_Skin")}
SETTINGS = PrepareSettings("Smiling", ("Male", "SkinTone"), joins=SKIN, person=True, seed=3)


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _prepare(source: Source, out: Path, settings: PrepareSettings = SETTINGS) -> Path:
    prepare.prepare(source, out, settings)
    return out


def _pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_each_party_gets_what_is_its_own_for_the_right_picture(celeba_root: Path, tmp_path: Path) -> None:
    source = celeba.read(celeba_root)
    out = _prepare(source, tmp_path / "out")
    by_pixels = {_pixels(path): i for i, path in enumerate(source.images)}
    labels, attributes = _rows(out / "developer/labels.csv"), _rows(out / "auditor/attributes.csv")
    assert list(labels[0]) == ["id", "path", "label", "split"]
    assert list(attributes[0]) == ["id", "Male", "SkinTone", "identity"]
    assert [row["id"] for row in labels] == [row["id"] for row in attributes] == [f"r{i:06d}" for i in range(120)]
    found = []
    for label, own in zip(labels, attributes, strict=True):
        i = by_pixels[_pixels(out / "developer" / label["path"])]
        found.append(i)
        assert label["label"] == ("no", "yes")[source.columns["Smiling"].codes[i]]
        assert source.splits is not None
        assert source.persons is not None
        assert label["split"] == source.splits[i]
        assert own["Male"] == ("no", "yes")[source.columns["Male"].codes[i]]
        assert source.columns[own["SkinTone"]].codes[i] == 1
        assert own["identity"] == source.persons[i]
    assert sorted(found) == list(range(120))
    assert json.loads((out / "developer/data.json").read_text()) == {
        "version": 1,
        "task": "Smiling",
        "classes": ["no", "yes"],
    }
    assert json.loads((out / "auditor/schema.json").read_text()) == {
        "version": 1,
        "attributes": {"Male": ["no", "yes"], "SkinTone": list(SKIN["SkinTone"])},
        "person": "identity",
    }


def test_the_auditor_has_no_image_and_no_label_and_the_developer_no_attribute(prepared: Path) -> None:
    assert sorted(p.name for p in (prepared / "auditor").iterdir()) == ["attributes.csv", "schema.json"]
    names = {p.name for p in (prepared / "developer").rglob("*") if p.is_file() and p.suffix != ".jpg"}
    assert names == {"labels.csv", "data.json"}
    text = (prepared / "developer/labels.csv").read_text() + (prepared / "developer/data.json").read_text()
    assert "Male" not in text
    assert "identity" not in text
    assert (prepared / "auditor").stat().st_mode & 0o077 == 0


def test_ids_do_not_depend_on_names_or_order_of_the_data_set(tmp_path: Path) -> None:
    """UTK-Face's names sort by age: ids from a seeded shuffle of that order could be undone by whoever has the seed."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(60)]
    settings = PrepareSettings("Gender", ("Age",))
    found = []
    for turn, ages in enumerate((rng.permutation(60), rng.permutation(60))):
        root = tmp_path / f"utk{turn}"
        root.mkdir()
        for age, picture in zip(ages.tolist(), pictures, strict=True):
            picture.save(root / f"{age}_0_0_20170116174525125.jpg")
        out = _prepare(utkface.read(root), tmp_path / f"out{turn}", settings)
        rows = _rows(out / "developer/labels.csv")
        found.append([(row["split"], (out / "developer" / row["path"]).read_bytes()) for row in rows])
    assert found[0] == found[1]


def test_neither_dates_nor_metadata_nor_creation_order_tell(celeba_root: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.jpg"
    source = celeba.read(celeba_root)
    exif = Image.Exif()
    exif[0x010E] = "Male 1"
    with Image.open(source.images[0]) as image:
        image.save(marked, exif=exif, comment="Male 1")
    source = replace(source, images=(marked, *source.images[1:]))
    out = _prepare(source, tmp_path / "out")
    stats, originals = [], {_pixels(path): i for i, path in enumerate(source.images)}
    for path in (out / "developer/images").rglob("*.jpg"):
        assert b"Male" not in path.read_bytes()
        stats.append((path.stat().st_ino, originals[_pixels(path)], path.stat().st_mtime))
    assert len({mtime for _, _, mtime in stats}) == 1
    # Files are made in a random order: |rank correlation| of 120 pairs exceeds 0.45 once in about 10^6 runs.
    inodes, order = np.argsort(np.argsort([s[0] for s in stats])), np.array([s[1] for s in stats])
    assert abs(np.corrcoef(inodes, order)[0, 1]) < 0.45


def test_the_same_seed_gives_the_same_folders_and_another_seed_other_ids(celeba_root: Path, tmp_path: Path) -> None:
    source = celeba.read(celeba_root)
    first = _prepare(source, tmp_path / "a")
    again = _prepare(source, tmp_path / "b")
    other = _prepare(source, tmp_path / "c", replace(SETTINGS, seed=4))
    files = [path.relative_to(first) for path in sorted(first.rglob("*")) if path.is_file()]
    assert all((first / file).read_bytes() == (again / file).read_bytes() for file in files)
    assert (first / "developer/labels.csv").read_bytes() != (other / "developer/labels.csv").read_bytes()


def test_a_data_set_without_splits_gets_seventy_ten_twenty(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(50):
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture.save(tmp_path / f"{i}_{i % 2}_0_20170116174525125.jpg")
    out = _prepare(utkface.read(tmp_path), tmp_path / "out", PrepareSettings("Gender", ("Age", "Race")))
    splits = [row["split"] for row in _rows(out / "developer/labels.csv")]
    assert [splits.count(name) for name in ("train", "val", "test")] == [35, 5, 10]
    assert splits != sorted(splits)


def test_the_auditors_own_images_are_of_other_persons(celeba_root: Path, tmp_path: Path) -> None:
    source = celeba.read(celeba_root)
    out = _prepare(source, tmp_path / "out", replace(SETTINGS, auditor_images=0.25))
    own, shared = _rows(out / "auditor/images.csv"), _rows(out / "auditor/attributes.csv")
    labels = _rows(out / "developer/labels.csv")
    assert list(own[0]) == ["id", "path", "split", "Male", "SkinTone", "identity"]
    assert [row["id"] for row in labels] == [row["id"] for row in shared]
    assert len(own) + len(shared) == 120
    assert 24 <= len(own) <= 26  # a quarter of the 96 of train and val, rounded up to a whole person of at most 3
    assert not {row["identity"] for row in own} & {row["identity"] for row in shared}
    assert all(row["split"] != "test" for row in own)
    hold: dict[bytes, set[str]] = defaultdict(set)
    for party in ("developer", "auditor"):
        for path in (out / party / "images").rglob("*.jpg"):
            hold[_pixels(path)].add(party)
    assert len(hold) == 120
    assert all(len(parties) == 1 for parties in hold.values())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (PrepareSettings("Smilling", ("Male",)), "no column 'Smilling'; the data set has"),
        (PrepareSettings("Smiling", ("Female",)), "no column 'Female'"),
        (PrepareSettings("Smiling", ("Tone",), joins={"Tone": ("Male", "Young")}), "join Tone"),
    ],
)
def test_unknown_columns_are_refused_before_anything_is_written(
    celeba_root: Path, tmp_path: Path, settings: PrepareSettings, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        _prepare(celeba.read(celeba_root), tmp_path / "out", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("task", "sensitive"), [("Male", ("Male",)), ("Smiling", ()), ("Smiling", ("Male", "Male"))])
def test_task_and_attributes_are_distinct(task: str, sensitive: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="distinct columns"):
        PrepareSettings(task, sensitive)


def test_persons_must_be_known(celeba_root: Path, tmp_path: Path) -> None:
    source = replace(celeba.read(celeba_root), persons=None)
    with pytest.raises(DataError, match="says nothing of persons"):
        _prepare(source, tmp_path / "out")


def test_broken_images_are_named_and_nothing_is_left(celeba_root: Path, tmp_path: Path) -> None:
    source = celeba.read(celeba_root)
    broken, empty = tmp_path / "broken.jpg", tmp_path / "empty.jpg"
    broken.write_bytes(source.images[0].read_bytes()[:-200])
    empty.write_bytes(b"")
    source = replace(source, images=(broken, empty, *source.images[2:]))
    with pytest.raises(DataError, match=r"broken.jpg: broken JPEG .* \(and 1 more\); replace the file"):
        _prepare(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jpg", "empty.jpg"]


def test_an_existing_folder_is_refused(celeba_root: Path, tmp_path: Path) -> None:
    out = _prepare(celeba.read(celeba_root), tmp_path / "out")
    before = (out / "developer/labels.csv").read_bytes()
    with pytest.raises(DataError, match="exists and is not empty"):
        _prepare(celeba.read(celeba_root), out, replace(SETTINGS, seed=9))
    assert (out / "developer/labels.csv").read_bytes() == before
