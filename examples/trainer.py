"""Secret-shared fairness in a Hugging Face Trainer: a tiny BERT that classifies made-up sentences.

Three things make it work: the data set carries each record's index, `compute_loss` adds the term, and the Trainer keeps
batches as planned (every record once an epoch, no record dropped, one device).
Run: python examples/trainer.py OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from common import GROUPS, Data, describe, draw
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from secure_fair.api import FairnessTerm, TrainingPlan, write_attributes

WIDTH, BATCH, EPOCHS = 32, 64, 3


class Sentences(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Eight words a record: its features, rounded."""

    def __init__(self, data: Data) -> None:
        words = (data.x.clamp(-3, 3) + 3).round().long()
        self.words, self.labels = words + 7 * torch.arange(8) + 1, data.y

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index], "index": torch.tensor(index)}


class FairTrainer(Trainer):  # type: ignore[misc]  # transformers is not read by the type checker
    """A Trainer whose loss has one more term."""

    def __init__(self, term: FairnessTerm | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.term = term

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Task loss plus the term on the representation that the classifier sees."""
        index = inputs.pop("index")
        out = model(**inputs, output_hidden_states=True)
        loss: Tensor = out.loss
        return loss if self.term is None else loss + self.term(out.hidden_states[-1][:, 0], inputs["labels"], index)


def train(data: Data, term: FairnessTerm | None, out: Path) -> nn.Module:
    """Train from random weights."""
    set_seed(0)
    model: nn.Module = BertForSequenceClassification(
        BertConfig(
            vocab_size=64,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            num_labels=2,
        )
    )
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=BATCH,
        num_train_epochs=EPOCHS,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        remove_unused_columns=False,  # the index has to reach compute_loss
        dataloader_drop_last=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    FairTrainer(term, model=model, args=arguments, train_dataset=Sentences(data)).train()
    return model


@torch.no_grad()
def predict(model: nn.Module, test: Data) -> Tensor:
    """Class probabilities [n, 2]."""
    scores: Tensor = model.eval()(Sentences(test).words).logits.softmax(dim=1)
    return scores


def main(out: Path) -> None:
    """Train without and with the term, and compare."""
    data, test = draw(1000, 0.9, 0, "r"), draw(1000, 0.5, 1, "t")
    table = write_attributes(out / "auditor", data.ids, {"group": [GROUPS[g] for g in data.groups]}, {"group": GROUPS})
    settings = out / "settings.toml"
    settings.write_text(f'[attributes]\nfile = "{table.resolve()}"\ncolumns = ["group"]\n[fairness]\nweight = 200.0\n')

    describe("without", predict(train(data, None, out / "plain"), test), test)
    plan = TrainingPlan(data.ids, data.y, classes=2, width=WIDTH, batch_size=BATCH, epochs=EPOCHS)
    with FairnessTerm.simulate(settings, plan, method="orth", release="gradient", out=out / "gradient") as term:
        model = train(data, term, out / "fair")
    describe("orth, gradient", predict(model, test), test)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
