"""Attack on the release `adapter-gradient`: one exact gradient gives the row space of the sensitive LoRA away.

A layer's opened G = T (T^T H) with T [d, r'] the transposed factor: its columns lie in T's column space, and with as
many of our own columns as T has they span it. Whatever the sensitive LoRA reads off its input lies in that space.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from secure_fair.leakage.material import Floats
from secure_fair.privacy.disclosures import Disclosure, load_value
from secure_fair.settings import Settings

NAME = "row space of the sensitive LoRA from one gradient"


def attack_overlap(run: Path, opened: list[Disclosure], settings: Settings) -> dict[str, Any]:
    """The `leakage` block: `row_space` has the share of the space recovered, mean over layers, and by chance."""
    from safetensors.torch import load_file

    from secure_fair.fairness.overlap import columns
    from secure_fair.model.lora import SENSITIVE

    kept = load_file(run / "auditor" / SENSITIVE)  # of a simulation: it scores the attack and does not feed it
    truth = [value.double().numpy() for value in columns(kept, settings.fairness.factors)]
    flat, _ = load_value(run / "developer", opened[-1])  # at first B is 0
    rank = settings.lora.rank
    parts = np.split(flat.astype(np.float64) * opened[-1].unit, np.cumsum([len(t) * rank for t in truth])[:-1])
    shares = [recovered(part.reshape(len(t), rank), t) for part, t in zip(parts, truth, strict=True) if t.any()]
    chance = [t.shape[1] / t.shape[0] for t in truth]
    return {
        "attribute_recovery": {"attack": NAME, "accuracy": None, "auc": None, "bound": None},
        "row_space": {"recovered": float(np.mean(shares)), "by_chance": float(np.mean(chance)), "layers": len(truth)},
    }


def recovered(gradient: Floats, truth: Floats) -> float:
    """Mean squared cosine of the principal angles between the columns of G [d, r] and of T [d, r'], of 0 to 1."""
    rank = min(gradient.shape[1], truth.shape[1])
    guess = np.linalg.svd(gradient, full_matrices=False)[0][:, :rank]
    space = np.linalg.qr(truth)[0]
    return float(np.square(guess.T @ space).sum() / truth.shape[1])
