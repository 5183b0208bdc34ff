"""Representations of every split, as the private releases sum them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from secure_fair.data.images import ImageSet
from secure_fair.model.classifier import FairClassifier
from secure_fair.releases.moment import FeatureMap, vectors
from secure_fair.settings import Settings
from secure_fair.training import device
from secure_fair.training.loop import Splits
from secure_fair.training.processes import ALONE, Processes, Walk

_FEATURE_BATCH = 256
Floats = npt.NDArray[np.float32]


class Features:
    """Vectors u of every split, from the backbone with LoRA off and, on request, from the model as it is now."""

    def __init__(
        self,
        settings: Settings,
        model: FairClassifier,
        splits: Splits,
        progress: Callable[[str, int, int], None],
        processes: Processes = ALONE,
    ) -> None:
        self._settings, self._model, self._progress, self._processes = settings, model, progress, processes
        self.splits = {"train": splits.train, "val": splits.val, "test": splits.test}
        self._frozen = {name: self._features(images, name, current=False) for name, images in self.splits.items()}

    def vectors(self, *, with_current: bool) -> dict[str, Floats]:
        """u [n, D] of each split; maps are fitted to the training images and know no attribute."""
        parts = [self._frozen]
        if with_current:
            parts.append({name: self._features(images, name, current=True) for name, images in self.splits.items()})
        seed, rank = self._settings.training.seed, self._settings.privacy.rank
        maps = [FeatureMap.fit(part["train"], rank, seed) for part in parts]
        return {name: vectors(maps, [part[name] for part in parts]) for name in self.splits}

    @torch.no_grad()
    def _features(self, images: ImageSet, split: str, *, current: bool) -> Floats:
        chosen = device.resolve(self._settings.training.device)
        model = self._model.to(chosen)
        training = model.training
        model.eval()
        features = np.empty((len(images), model.width), dtype=np.float32)
        done = 0
        forward = model.represent if current else model.frozen_features
        for batch in self._processes.batches(model, images, self._settings, Walk(_FEATURE_BATCH, frozen=not current)):
            with device.autocast(self._settings, chosen):
                block = self._processes.gathered(forward(batch.images.to(chosen)), len(batch.labels))
            features[done : done + len(block)] = block.float().cpu().numpy()
            done += len(block)
            self._progress(f"features, {split}", done, len(images))
        model.train(training)
        return features
