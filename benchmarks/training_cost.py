"""What a training step of a backbone costs where it runs: images a second, processor seconds an image, peak memory.

python -m benchmarks.training_cost --batch 8 --out benchmarks/results/training/cpu.json
"""

from __future__ import annotations

import argparse
import resource
import shlex
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.environment import describe
from secure_fair.files import write_json
from secure_fair.model.classifier import build_classifier
from secure_fair.settings import Settings
from secure_fair.training import device


def measure(settings: Settings, batch: int, steps: int) -> dict[str, float | int | str]:
    """One step for warming up, then `steps`: forward, backward and AdamW on random images."""
    chosen = device.resolve(settings.training.device)
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    model = build_classifier(settings, 2).to(chosen)
    optimiser = torch.optim.AdamW(model.trainable().values(), lr=settings.training.learning_rate)
    size = settings.data.image_size
    images, labels = torch.randn(batch, 3, size, size, device=chosen), torch.randint(2, (batch,), device=chosen)
    wall, processor = [], []
    for _ in range(steps + 1):
        began, used = time.perf_counter(), time.process_time()
        with device.autocast(settings, chosen):
            loss = functional.cross_entropy(model(images).float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if chosen.type == "cuda":
            torch.cuda.synchronize(chosen)
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    on_gpu = chosen.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(chosen) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return {
        "backbone": settings.model.backbone,
        "device": str(chosen),
        "batch": batch,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "images_per_second": batch / statistics.median(wall[1:]),
        "processor_seconds_per_image": statistics.median(processor[1:]) / batch,
        "peak_memory_bytes": peak,
        "trainable_parameters": sum(value.numel() for value in model.trainable().values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vit_base_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    settings = Settings.model_validate(
        {
            "data": {"image_size": chosen.size},
            "model": {"backbone": chosen.backbone, "weights": "random"},
            "training": {"device": chosen.device, "threads": chosen.threads},
        }
    )
    command = shlex.join(["python", "-m", "benchmarks.training_cost", *sys.argv[1:]])
    row = measure(settings, chosen.batch, chosen.steps)
    result = {"row": row, "environment": describe() | {"command": command}}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out, result)


if __name__ == "__main__":
    main()
