"""Procedural faces and the two parties' folders of them, where they are not there yet."""

from __future__ import annotations

from pathlib import Path

from secure_fair.data import celeba
from secure_fair.data.faces import FaceSettings, draw
from secure_fair.data.folders import Progress, no_progress
from secure_fair.data.prepare import PrepareSettings, prepare


def drawn(
    folder: Path,
    faces: FaceSettings,
    chosen: PrepareSettings,
    drawing: Progress = no_progress,
    splitting: Progress = no_progress,
) -> None:
    """FOLDER/faces in CelebA's layout, FOLDER/prepared the parties' folders; what is there already is kept."""
    if not (folder / "faces").exists():
        draw(folder / "faces", faces, drawing)
    if not (folder / "prepared").exists():
        prepare(celeba.read(folder / "faces"), folder / "prepared", chosen, splitting)
