"""A tiny prepared folder: noise images whose brightness is the label and whose tint is the attribute."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secure_fair.settings import Settings, parse

SPLITS = ["train"] * 40 + ["val"] * 10 + ["test"] * 14


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    (root / "developer" / "images").mkdir(parents=True)
    (root / "auditor").mkdir()
    labels, attributes = [], []
    for i, split in enumerate(SPLITS):
        label = int(rng.integers(2))
        group = label if rng.random() < 0.8 else 1 - label
        pixels = rng.normal(90 + 60 * label, 30, size=(48, 48, 3))
        pixels[..., 0] += 60 * group
        record = f"r{i:06d}"
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(root / "developer" / "images" / f"{record}.jpg", quality=90)
        labels.append((record, f"images/{record}.jpg", ("no", "yes")[label], split))
        attributes.append((record, ("no", "yes")[group], ("pale", "medium", "dark")[i % 3]))
    _write(root / "developer" / "labels.csv", ("id", "path", "label", "split"), labels)
    # The auditor's rows come in another order: everything is joined by id.
    _write(root / "auditor" / "attributes.csv", ("id", "Male", "Skin"), attributes[::-1])
    task = {"version": 1, "task": "Smiling", "classes": ["no", "yes"]}
    (root / "developer" / "data.json").write_text(json.dumps(task))
    categories = {"Male": ["no", "yes"], "Skin": ["pale", "medium", "dark"]}
    schema = {"version": 1, "attributes": categories, "person": None}
    (root / "auditor" / "schema.json").write_text(json.dumps(schema))
    return root


@pytest.fixture(scope="session")
def settings(prepared: Path) -> Settings:
    table = {
        "data": {"root": str(prepared / "developer"), "image_size": 48},
        "attributes": {"columns": ["Male"]},
        "model": {"backbone": "demo_vit", "weights": "random"},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1},
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, "device": "cpu", "threads": 1, "seed": 3},
    }
    return parse(Settings, table, "test")


def _write(file: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
