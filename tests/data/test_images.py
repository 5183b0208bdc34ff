"""The developer's reader: pixels, order, batches, errors."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from secure_fair.data.images import ImageSet, TransformSpec, batches, read_labels
from secure_fair.errors import DataError

SPEC = TransformSpec(32)


@pytest.fixture
def train(prepared: Path) -> ImageSet:
    return ImageSet(read_labels(prepared / "developer"), "train", SPEC)


def test_positions_follow_the_sorted_ids(prepared: Path, train: ImageSet) -> None:
    table = read_labels(prepared / "developer")
    assert list(train.ids) == sorted(i for i, split in zip(table.ids, table.splits, strict=True) if split == "train")
    image, label, position = train[7]
    row = table.ids.index(train.ids[7])
    assert (label, position) == (int(table.labels[row]), 7)
    with Image.open(table.paths[row]) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    assert torch.equal(image, (pixels.float() - 127.5) / 127.5)


def test_the_transform_is_timms_own_without_its_crop(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    config = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
    theirs = timm.data.create_transform(input_size=(3, 48, 48), is_training=False, crop_pct=1.0, **config)
    spec = TransformSpec.of(config, 48)
    ours = spec.normalise(spec.pixels(tmp_path / "square.png"))
    assert torch.allclose(ours, theirs(Image.fromarray(pixels)), atol=1e-6)


@pytest.mark.parametrize(("height", "width", "box"), [(109, 89, (0, 10, 89, 99)), (89, 109, (10, 0, 99, 89))])
def test_a_tall_or_wide_image_is_cropped_at_its_centre(
    tmp_path: Path, height: int, width: int, box: tuple[int, int, int, int]
) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    expected = np.array(image.crop(box).resize((48, 48), Image.Resampling.BICUBIC))
    found = TransformSpec(48).pixels(tmp_path / "x.png").permute(1, 2, 0).numpy()
    # At the border of the box the filter sees beyond it.
    assert np.array_equal(found[2:-2, 2:-2], expected[2:-2, 2:-2])


def test_an_unknown_interpolation_of_timm_becomes_bicubic() -> None:
    config = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "random"}
    assert TransformSpec.of(config, 8).interpolation == "BICUBIC"


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_an_epoch_is_every_record_once_whatever_reads_it(prepared: Path, workers: int, cache_bytes: int) -> None:
    images = ImageSet(read_labels(prepared / "developer"), "train", SPEC, cache_bytes)
    for _ in range(2):  # the second time from the cache, if there is one
        read = list(batches(images, 16, epoch=1, seed=2, workers=workers))
        assert [len(batch.labels) for batch in read] == [16, 16, 16, 16, 16, 4]
        positions = torch.cat([batch.positions for batch in read])
        assert sorted(positions.tolist()) == list(range(84))
        for batch in read:
            expected = torch.stack([images[int(p)][0] for p in batch.positions])
            assert torch.equal(batch.images, expected)
            assert torch.equal(batch.labels, images.labels[batch.positions])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


def test_the_order_depends_on_seed_and_epoch_and_not_on_labels(prepared: Path) -> None:
    table = read_labels(prepared / "developer")
    one = ImageSet(table, "train", SPEC)
    flipped = ImageSet(
        type(table)(table.ids, table.paths, 1 - table.labels, table.splits, table.classes, table.task), "train", SPEC
    )

    def order(images: ImageSet, epoch: int | None, seed: int) -> list[int]:
        return torch.cat([b.positions for b in batches(images, 10, epoch=epoch, seed=seed)]).tolist()

    assert order(one, 0, 0) == order(flipped, 0, 0)
    assert order(one, None, 0) == list(range(84))
    assert len({tuple(order(one, epoch, seed)) for epoch in (0, 1) for seed in (0, 1)}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_resumed_at_a_step(train: ImageSet, workers: int) -> None:
    whole = list(batches(train, 16, epoch=3, seed=1))
    rest = list(batches(train, 16, epoch=3, seed=1, start_step=4, workers=workers))
    assert len(rest) == 2
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[4:], rest, strict=True))
    assert list(batches(train, 16, epoch=3, seed=1, start_step=6, workers=workers)) == []


def test_leaving_an_epoch_ends_its_threads(train: ImageSet) -> None:
    reader = batches(train, 8, epoch=0, seed=0, workers=2)
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_or_missing_image_is_named(prepared: Path, train: ImageSet, workers: int) -> None:
    train.paths[5].write_bytes(train.paths[5].read_bytes()[:300])
    with pytest.raises(DataError, match=f"{train.ids[5]}.jpg: broken image .*; replace it"):
        list(batches(train, 16, epoch=None, seed=0, workers=workers))
    train.paths[5].unlink()
    with pytest.raises(DataError, match=f"{train.ids[5]}.jpg: missing file; restore it"):
        list(batches(train, 16, epoch=None, seed=0, workers=workers))


def test_an_empty_split_is_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match="no record is in the split 'holdout'"):
        ImageSet(read_labels(prepared / "developer"), "holdout", SPEC)


def test_reading_many_sets_twice_gives_the_same_table(prepared: Path) -> None:
    first, second = read_labels(prepared / "developer"), read_labels(prepared / "developer")
    assert first.ids == second.ids
    assert first.classes == ("no", "yes")
    assert np.array_equal(first.labels, second.labels)
