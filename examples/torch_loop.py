"""Secret-shared fairness in a plain PyTorch loop: a model of your own, data of your own.

The auditor and the dealer are processes on this machine here; with FairnessTerm.connect they are other hosts.
Run: python examples/torch_loop.py OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from common import GROUPS, Data, describe, draw
from torch import Tensor, nn

from secure_fair.api import FairnessTerm, TrainingPlan, write_attributes

WIDTH, BATCH, EPOCHS = 16, 128, 6
Term = Callable[[Tensor, Tensor, Tensor], Tensor]


def train(data: Data, term: Term | None) -> nn.Sequential:
    """A loop like any other; the line with `term` is what secure-fair adds."""
    torch.manual_seed(0)
    encoder, head = nn.Sequential(nn.Linear(8, WIDTH), nn.Tanh()), nn.Linear(WIDTH, 2)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(data.y)).split(BATCH):
            h = encoder(data.x[index])
            loss = nn.functional.cross_entropy(head(h), data.y[index])
            if term is not None:
                loss = loss + term(h, data.y[index], index)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return nn.Sequential(encoder, head)


@torch.no_grad()
def predict(model: nn.Module, test: Data) -> Tensor:
    """Class probabilities [n, 2]."""
    scores: Tensor = model(test.x).softmax(dim=1)
    return scores


def main(out: Path) -> None:
    """Train without and with the term, and compare."""
    data, test = draw(2000, 0.9, 0, "r"), draw(2000, 0.5, 1, "t")
    # The auditor's side. In earnest the developer has none of this.
    table = write_attributes(out / "auditor", data.ids, {"group": [GROUPS[g] for g in data.groups]}, {"group": GROUPS})
    settings = out / "settings.toml"
    settings.write_text(f'[attributes]\nfile = "{table.resolve()}"\ncolumns = ["group"]\n[fairness]\nweight = 100.0\n')

    describe("without", predict(train(data, None), test), test)
    plan = TrainingPlan(
        data.ids, data.y, classes=2, width=WIDTH, batch_size=BATCH, epochs=EPOCHS, features=data.x.numpy()
    )
    for release in ("gradient", "moment"):
        with FairnessTerm.simulate(settings, plan, method="orth", release=release, out=out / release) as term:
            model = train(data, term)
        describe(f"orth, {release}", predict(model, test), test)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
