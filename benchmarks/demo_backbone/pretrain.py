"""Trains the demo's backbone on procedural faces only and writes secure_fair/assets/demo_vit.safetensors.

    python -m benchmarks.demo_backbone.pretrain

The faces are drawn with every attribute independent of every other. The network learns to read all of them at once, the
smile and the age as numbers, so that its representation serves any of the demo's tasks and favours none. Nobody is
depicted, and no other data or weights are used. About ten minutes on one core. The result depends on the seeds, and in
its last digits on torch's version and the processor.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from secure_fair.data import celeba, faces
from secure_fair.data.images import TransformSpec
from secure_fair.model.backbone import DEMO_ARCHITECTURE, DEMO_SIZE, data_config, demo_architecture
from secure_fair.training.summary import commit, versions

HERE = Path(__file__).parent
ASSET = HERE.parents[1] / "secure_fair" / "assets" / "demo_vit.safetensors"
# An overlap above the demo's own gives smiles of every strength.
FACES = faces.FaceSettings(count=24_000, seed=1000, correlation=0.5, overlap=0.7, workers=2)
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP, SEED = 16, 128, 1.5e-3, 0.05, 200, 0
LOSS_SCALE = 2.0  # against the limit of 1 on the gradient's norm
AGE_CENTRE, AGE_SCALE = 45, 18  # years


def draw(folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw FACES and read them back as the demo does: pixels uint8 [N, 3, S, S], CelebA's columns as flags [N]."""
    faces.draw(folder / "faces", FACES, lambda done, total: _say(f"drawn {done}/{total}", done % 4000 == 0))
    source = celeba.read(folder / "faces")
    transform = TransformSpec.of(data_config(demo_architecture()), DEMO_SIZE)
    pixels = torch.stack([transform.pixels(file) for file in source.images])
    return pixels, {name: torch.from_numpy(source.columns[name].codes).float() for name in sorted(source.columns)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ASSET)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "pretrain.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    began = time.perf_counter()
    population = list(faces.population(FACES))
    numbers = torch.tensor([(face.traits.smile, (face.traits.age - AGE_CENTRE) / AGE_SCALE) for face in population])
    with tempfile.TemporaryDirectory() as folder:
        pixels, columns = draw(Path(folder))
    names, flags = list(columns), torch.stack(list(columns.values()), dim=1)
    split = np.array([face.split for face in population])
    backbone = demo_architecture()
    reader = nn.Linear(backbone.num_features, len(names) + numbers.shape[1])
    transform = TransformSpec.of(data_config(backbone), DEMO_SIZE)
    fit(backbone, reader, transform, pixels, flags, numbers, torch.from_numpy(np.flatnonzero(split == "train")))
    found = evaluate(backbone, reader, transform, pixels, names, flags, numbers, np.flatnonzero(split == "test"))
    save_file(
        {name: tensor.half().contiguous() for name, tensor in backbone.state_dict().items()},
        options.out,
        metadata={"architecture": json.dumps(DEMO_ARCHITECTURE), "trained_on": "procedural faces of secure-fair"},
    )
    report = {
        "command": "python -m benchmarks.demo_backbone.pretrain",
        **found,
        "seconds": round(time.perf_counter() - began),
        "bytes": options.out.stat().st_size,
        "versions": versions(),
        "commit": commit(),
        "hardware": f"{platform.machine()}, one core",
    }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps(report, indent=2) + "\n")
    _say(json.dumps(found, indent=2))


def fit(
    backbone: nn.Module,
    reader: nn.Module,
    transform: TransformSpec,
    pixels: Tensor,
    flags: Tensor,
    numbers: Tensor,
    rows: Tensor,
) -> None:
    """AdamW with warm-up and cosine decay; half of the batches mirrored."""
    parameters = [*backbone.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    total = EPOCHS * math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, step / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / total))
    )
    for epoch in range(EPOCHS):
        losses = []
        for chosen in rows[torch.randperm(len(rows))].split(BATCH):
            images = _normalise(transform, pixels[chosen])
            if torch.rand(()) < 0.5:
                images = images.flip(-1)
            read = reader(backbone(images))  # [n, F + 2]
            loss = functional.binary_cross_entropy_with_logits(read[:, : flags.shape[1]], flags[chosen])
            loss = LOSS_SCALE * loss + LOSS_SCALE * functional.mse_loss(read[:, flags.shape[1] :], numbers[chosen])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        _say(f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.3f}")


def _normalise(transform: TransformSpec, pixels: Tensor) -> Tensor:
    """As `transform.normalise`, rounded as when the shipped checkpoint was trained: the last digits decide the rest."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.mean, transform.std))
    return (pixels.float() / 255 - mean) / std


@torch.inference_mode()
def evaluate(
    backbone: nn.Module,
    reader: nn.Module,
    transform: TransformSpec,
    pixels: Tensor,
    names: list[str],
    flags: Tensor,
    numbers: Tensor,
    rows: np.ndarray,
) -> dict[str, dict[str, float]]:
    """Accuracy of every flag and R^2 of the numbers on faces that were not trained on."""
    backbone.eval()
    read = torch.cat(
        [reader(backbone(_normalise(transform, pixels[part]))) for part in torch.from_numpy(rows).split(500)]
    )
    right = ((read[:, : len(names)] > 0) == (flags[rows] > 0)).float().mean(dim=0)
    residual = (read[:, len(names) :] - numbers[rows]).square().mean(dim=0) / numbers[rows].var(dim=0)
    return {
        "accuracy": {name: round(value, 4) for name, value in zip(names, right.tolist(), strict=True)},
        "explained_variance": {
            name: round(1 - value, 4) for name, value in zip(("smile", "age"), residual.tolist(), strict=True)
        },
    }


def _say(text: str, when: bool = True) -> None:
    if when:
        print(text, flush=True)  # noqa: T201 a script


if __name__ == "__main__":
    main()
