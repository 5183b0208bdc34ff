"""CelebA and UTK-Face as they are distributed, and as they are distributed broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.data import celeba, utkface
from secure_fair.errors import DataError

# The real list's own spacing: names end with a space, values stand in columns of two.
ATTRIBUTES = "3\nSmiling Male Young \n000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000003.jpg -1 -1 -1\n"
PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
IDENTITY = "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n"


def _write(root: Path, files: dict[str, str], images: str = "img_align_celeba") -> Path:
    (root / images).mkdir(parents=True)
    for number in (1, 2, 3):
        (root / images / f"{number:06d}.jpg").write_bytes(b"")
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return root


def _flat(root: Path, **changed: str) -> Path:
    files = {"list_attr_celeba": ATTRIBUTES, "list_eval_partition": PARTITION, "identity_CelebA": IDENTITY} | changed
    return _write(root, {f"{name}.txt": text for name, text in files.items()})


def test_celeba_flat(tmp_path: Path) -> None:
    source = celeba.read(_flat(tmp_path))
    assert [path.name for path in source.images] == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert source.columns["Smiling"].codes.tolist() == [0, 1, 0]
    assert source.columns["Young"].categories == ("no", "yes")
    assert source.splits == ("train", "val", "test")
    assert source.persons == ("2880", "2937", "2880")


def test_celeba_official_archive(tmp_path: Path) -> None:
    files = {"Anno/list_attr_celeba.txt": ATTRIBUTES, "Eval/list_eval_partition.txt": PARTITION}
    source = celeba.read(_write(tmp_path, files, "Img/img_align_celeba"))
    assert source.images[2] == tmp_path / "Img/img_align_celeba/000003.jpg"
    assert source.persons is None


def test_celeba_csv_mirror(tmp_path: Path) -> None:
    files = {
        "list_attr_celeba.csv": "image_id,Smiling,Male\n000001.jpg,-1,1\n000002.jpg,1,-1\n000003.jpg,-1,-1\n",
        "list_eval_partition.csv": "image_id,partition\n" + PARTITION.replace(" ", ","),
    }
    source = celeba.read(_write(tmp_path, files, "img_align_celeba/img_align_celeba"))
    assert source.columns["Male"].codes.tolist() == [1, 0, 0]
    assert source.splits == ("train", "val", "test")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"list_attr_celeba": ATTRIBUTES.replace("000003", "000009")}, "row 5: missing file .*000009.jpg; restore"),
        ({"list_attr_celeba": ATTRIBUTES.replace("000003", "000002")}, "row 5: duplicate id '000002.jpg'.*row 4"),
        (
            {"list_attr_celeba": ATTRIBUTES.replace("1 -1  1", "1  0  1")},
            "row 4: Male of 000002.jpg is '0'; write 1 or -1",
        ),
        ({"list_attr_celeba": ATTRIBUTES.replace("1 -1  1", "1 -1")}, "row 4: 2 values instead of 3"),
        ({"list_attr_celeba": ATTRIBUTES.replace("3\n", "4\n", 1)}, "3 rows instead of 4"),
        ({"list_attr_celeba": ATTRIBUTES.replace("Young", "Male")}, "row 2: not a row of distinct"),
        ({"list_eval_partition": PARTITION.replace("3.jpg 2", "3.jpg 3")}, "row 3: '000003.jpg 3' is not"),
        ({"list_eval_partition": PARTITION.replace("000003.jpg 2\n", "")}, "no row for 000003.jpg"),
        ({"list_eval_partition": PARTITION + "000004.jpg 0\n"}, "row 4: unknown id '000004.jpg'"),
        ({"identity_CelebA": IDENTITY + "000001.jpg 7\n"}, "row 4: duplicate id '000001.jpg'"),
    ],
)
def test_celeba_names_file_row_and_mend(tmp_path: Path, changed: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        celeba.read(_flat(tmp_path, **changed))
    assert f"{next(iter(changed))}.txt" in str(caught.value)


def test_celeba_without_lists_or_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing file list_attr_celeba.txt"):
        celeba.read(tmp_path)
    (tmp_path / "list_attr_celeba.txt").write_text(ATTRIBUTES)
    with pytest.raises(DataError, match="missing folder img_align_celeba"):
        celeba.read(tmp_path)


def test_joined_columns_must_be_exclusive(tmp_path: Path) -> None:
    source = celeba.read(_flat(tmp_path))
    with pytest.raises(DataError, match=r"000001.jpg has Male and Young of .* \(2 such images\)"):
        source.join("Either", ("Male", "Young"))
    with pytest.raises(DataError, match="no column 'Tall'"):
        source.join("Either", ("Male", "Tall"))


GOOD = (
    "1_0_2_20161219140530307.jpg.chip.jpg",
    "39_1_0_20170116174525125.jpg",
    "110_1_4_20170120134701015.jpg.chip.jpg",
)
KNOWN_MALFORMED = (
    "39_1_20170116174525125.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "61_3_20170109150557335.jpg.chip.jpg",
    "53__0_20170116184028385.jpg",
    "_1_0_20170116184028385.jpg",
    "55_0_5_20170116184028385.jpg",
    "155_0_1_20170116184028385.jpg",
)
READABLE_ENDINGS = (
    "55_0_0_20170116232725357jpg.chip.jpg",
    "24_0_1_20170116220224657 .jpg.chip.jpg",
    "44_1_4_20170116235150272.pg.chip.jpg",
)


def test_utkface_uses_what_can_be_read_and_reports_the_rest(tmp_path: Path) -> None:
    for name in (*GOOD, *KNOWN_MALFORMED, *READABLE_ENDINGS):
        (tmp_path / name).write_bytes(b"")
    source = utkface.read(tmp_path)
    assert {path.name for path in source.images} == {*GOOD, *READABLE_ENDINGS}
    assert len(source.skipped) == len(KNOWN_MALFORMED)
    assert all("rename the file" in line for line in source.skipped)
    named = {path.name: i for i, path in enumerate(source.images)}
    at = named["110_1_4_20170120134701015.jpg.chip.jpg"]
    assert {name: column.categories[column.codes[at]] for name, column in source.columns.items()} == {
        "Age": "60+",
        "Gender": "female",
        "Race": "Others",
    }


def test_utkface_age_bins_begin_at_the_ages_given(tmp_path: Path) -> None:
    for age in (0, 17, 18, 64, 65, 116):
        (tmp_path / f"{age}_0_0_20170116174525125.jpg").write_bytes(b"")
    column = utkface.read(tmp_path, (18, 65)).columns["Age"]
    assert column.categories == ("0-17", "18-64", "65+")
    assert sorted(column.codes.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("bins", [(), (40, 20), (0, 20), (20, 20), (130,)])
def test_utkface_refuses_bins_that_do_not_rise(tmp_path: Path, bins: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="age bins"):
        utkface.read(tmp_path, bins)


def test_utkface_without_usable_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image named"):
        utkface.read(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        utkface.read(tmp_path / "nowhere")
