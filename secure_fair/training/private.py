"""DP-SGD (Abadi et al. 2016) for the auditor's sensitive LoRA; the only module that imports Opacus.

An epoch has one record of each person, and that in one batch: by parallel composition it costs what one Gaussian
release costs, and E epochs cost E times that. Nothing is claimed for the sampling of batches. Adjacency: one person's
attributes (images, too) are replaced, so a sum of clipped gradients moves by up to two clips, where Opacus's noise
multiplier is in units of one.

The noise is floating-point Gaussian noise, by the inverse transform of numbers of the operating system's cryptographic
generator: no seed, no setting. Sampling in floating point is not the exact law that a proof is about (Mironov 2012);
each draw is a sum of four, which keeps the known attacks on its lowest bits away (Holohan and Braghin 2021).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from scipy.special import ndtri

from secure_fair.errors import SettingsError
from secure_fair.privacy.accountant import Cost, gaussian_cost, noise_scale

try:
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer
except ImportError:
    raise SettingsError("sensitive.private = true needs Opacus: pip install secure-fair[dp]") from None

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from torch import Tensor
    from torch.optim import Optimizer

    from secure_fair.model.classifier import FairClassifier
    from secure_fair.settings import Settings

REPLACED = 2.0  # clips by which a sum moves when a person's gradient becomes another
ROUNDING = 1 + 2**-10  # norms, clipping and sums are of float32: a clipped gradient may be longer, by less than this
_DRAWS = 4


def epoch_cost(settings: Settings) -> Cost:
    """What each epoch costs a person, so that all of them are (privacy.epsilon, privacy.delta)-DP."""
    return gaussian_cost(settings.privacy.epsilon, settings.privacy.delta, settings.training.epochs)


def run_cost(settings: Settings) -> Cost:
    """What the whole training costs a person."""
    return Cost(epoch_cost(settings).rho * settings.training.epochs, None)


def noise_multiplier(cost: Cost) -> float:
    """Standard deviation of the noise over the clip, for epochs that cost so much each."""
    return noise_scale(cost, REPLACED) * ROUNDING


def protected(
    model: FairClassifier, optimiser: Optimizer, settings: Settings
) -> tuple[Callable[[Tensor], Tensor], Optimizer]:
    """The model, which from now on computes a gradient for each record, and an optimiser that clips and adds noise.

    Batches that are shorter than `training.batch_size` have the same noise, and a smaller share of gradient in it.
    """
    noisy = NoisyOptimizer(
        optimiser,
        noise_multiplier=noise_multiplier(epoch_cost(settings)),
        max_grad_norm=settings.sensitive.clip,
        expected_batch_size=settings.training.batch_size,
    )
    return GradSampleModule(model), cast("Optimizer", noisy)


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus is not typed
    """Opacus's, but that noise is from the operating system, and a gradient that is not finite counts as nothing."""

    def clip_and_accumulate(self) -> None:
        """Clipping multiplies, which makes NaN of infinity; that would be the record's sign in everybody's model."""
        finite = torch.stack([sample.flatten(1).isfinite().all(dim=1) for sample in self.grad_samples]).all(dim=0)
        for sample in self.grad_samples:
            sample[~finite] = 0
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Once a step, after clipping."""
        for parameter in self.params:
            noise = torch.from_numpy(gaussian(parameter.summed_grad.shape) * self.noise_multiplier * self.max_grad_norm)
            parameter.grad = (parameter.summed_grad + noise.to(parameter.summed_grad)).view_as(parameter)


def gaussian(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Independent standard normal numbers."""
    words = np.frombuffer(os.urandom(8 * _DRAWS * int(np.prod(shape))), dtype=np.uint64)
    uniform = ((words >> np.uint64(12)) + 0.5) * 2.0**-52  # symmetric about 1/2, and neither 0 nor 1
    draws: npt.NDArray[np.float64] = ndtri(uniform).reshape(_DRAWS, *shape).sum(axis=0) / np.sqrt(_DRAWS)
    return draws
