"""What a model says of each record of val and test: predictions.csv, and metrics.json without any group metric."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from secure_fair.errors import RunError
from secure_fair.fairness import metrics
from secure_fair.fairness.finite import finite
from secure_fair.files import write_json
from secure_fair.training import device
from secure_fair.training.processes import ALONE, Processes, Walk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from secure_fair.data.images import ImageSet
    from secure_fair.model.classifier import FairClassifier
    from secure_fair.settings import Settings

VERSION = 1
COLUMNS = ("id", "split", "label", "prediction")
SCORE = "score_"


@dataclass(frozen=True)
class Predictions:
    """One split: ids n, labels int64 [n] (indices into classes), scores [n, C] that sum to 1."""

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


def write(
    model: FairClassifier,
    splits: Mapping[str, ImageSet],
    settings: Settings,
    out: Path,
    chosen: torch.device,
    processes: Processes = ALONE,
) -> dict[str, dict[str, float]]:
    """Predict each split, write `out`/predictions.csv and `out`/metrics.json, and return the metrics by split."""
    found = {split: predict(model, images, settings, chosen, processes) for split, images in splits.items()}
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        for number, (split, part) in enumerate(found.items()):
            if number == 0:
                writer.writerow((*COLUMNS, *(SCORE + name for name in part.classes)))
            for record, label, scores in zip(part.ids, part.labels, part.scores, strict=True):
                names = part.classes[label], part.classes[scores.argmax()]
                writer.writerow((record, split, *names, *(f"{score:.9g}" for score in scores)))
    results = {split: metrics.overall(part.labels, part.scores) for split, part in found.items()}
    write_json(out / "metrics.json", {"version": VERSION, **finite(results)})
    return results


@torch.inference_mode()
def predict(
    model: FairClassifier, images: ImageSet, settings: Settings, chosen: torch.device, processes: Processes = ALONE
) -> Predictions:
    """Scores of one split, in position order."""
    model.eval()
    scores = []
    for batch in processes.batches(model, images, settings, Walk(settings.training.batch_size)):
        with device.autocast(settings, chosen):
            h = processes.gathered(model.represent(batch.images.to(chosen)), len(batch.labels))  # [n, d]
            logits = model.logits(h)  # [n, C]
        scores.append(logits.double().softmax(dim=1).cpu().numpy())
    return Predictions(images.ids, images.classes, images.labels.numpy(), np.concatenate(scores))


def read(file: Path, split: str) -> Predictions:
    """One split of a predictions.csv. Raises RunError when the file is not there or has no such split."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise RunError(f"{file}: missing, so the run is not complete; resume it or start it again") from None
    kept = [row for row in rows if row["split"] == split]
    if not kept:
        raise RunError(f"{file}: no prediction for the split {split!r}; start the run again")
    classes = tuple(column.removeprefix(SCORE) for column in kept[0] if column.startswith(SCORE))
    return Predictions(
        tuple(row["id"] for row in kept),
        classes,
        np.array([classes.index(row["label"]) for row in kept], dtype=np.int64),
        np.array([[float(row[SCORE + name]) for name in classes] for row in kept]),
    )
