"""Small data sets in real layouts, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.data import celeba, faces, prepare

COUNT = 120


@pytest.fixture(scope="session")
def celeba_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("celeba") / "faces"
    faces.draw(root, faces.FaceSettings(count=COUNT, size=(32, 32), images_per_person=3, seed=5))
    return root


@pytest.fixture
def prepared(celeba_root: Path, tmp_path: Path) -> Path:
    out = tmp_path / "prepared"
    prepare.prepare(celeba.read(celeba_root), out, prepare.PrepareSettings("Smiling", ("Male",), person=True))
    return out
