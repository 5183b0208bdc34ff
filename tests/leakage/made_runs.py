"""Runs made by hand, with people whose attributes are known: what the attacks on a whole run are tried on."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from secure_fair.data.attributes import AttributeTable
from secure_fair.leakage.material import People
from secure_fair.privacy.accountant import gaussian_cost, split_epsilon
from secure_fair.privacy.disclosures import DisclosureLog
from secure_fair.releases.moment import FeatureMap, MomentPlan, attribute_columns, noised, quantise, vectors
from secure_fair.releases.randomized_response import debias, flip, variance
from secure_fair.releases.ridge import SoftAttributes, from_moment, from_responses
from secure_fair.settings import Settings
from tests.leakage import synthetic

COLUMNS = {"Bright": ("no", "yes"), "Coin": ("tails", "heads"), "Tone": ("a", "b", "c")}


@dataclass(frozen=True)
class World:
    """A prepared data set of plain images: Bright shows, Coin does not, Tone shows."""

    root: Path
    table: AttributeTable

    def settings(self, columns: tuple[str, ...], epsilon: float = 1.0) -> Settings:
        return Settings.model_validate(
            {
                "data": {"root": self.root / "developer", "image_size": 48},
                "attributes": {"file": self.root / "auditor" / "attributes.csv", "columns": columns},
                "model": {"backbone": "demo_vit", "weights": "random"},
                "training": {"device": "cpu", "epochs": 3},
                "privacy": {"epsilon": epsilon, "store_values": True},
            }
        )

    def people(self, columns: tuple[str, ...], epsilon: float = 1.0) -> People:
        return People.of(self.settings(columns, epsilon), self.table, columns)


def write_csv(file: Path, header: list[str], rows: list[list[Any]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_predictions(run: Path, people: People, unfairness: float, seed: int) -> None:
    """Scores of a model that leans on the first attribute as much as `unfairness`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 0.3, len(people.truth)) + unfairness * people.truth[:, 0] + 2 * people.labels.labels
    scores = 1 / (1 + np.exp(2 - logits))
    rows = [
        [name, split, ("no", "yes")[label], ("no", "yes")[int(score > 0.5)], f"{1 - score:.9g}", f"{score:.9g}"]
        for name, split, label, score in zip(
            people.labels.ids, people.labels.splits, people.labels.labels, scores, strict=True
        )
        if split != "train"
    ]
    (run / "developer").mkdir(parents=True, exist_ok=True)
    write_csv(
        run / "developer" / "predictions.csv", ["id", "split", "label", "prediction", "score_no", "score_yes"], rows
    )


def write_summary(run: Path, people: People) -> None:
    (run / "summary.json").write_text(json.dumps({"config": people.settings.model_dump(mode="json")}))


def gradient_run(run: Path, people: People, method: str) -> Path:
    train = people.of_split("train")
    features = people.features("train")
    x = (features - features.mean(axis=0)) / features.std(axis=0)
    data = synthetic.People(
        torch.from_numpy(x).float(), people.truth[train], people.labels.labels[train], people.categories
    )
    write_predictions(run, people, 0.1, seed=1)
    synthetic.train(run / "developer", data, method, epochs=3, weight=1.0, places=train)
    write_summary(run, people)
    return run


def features_of(people: People) -> tuple[Any, Any]:
    """u of training and test people, as the developer makes them."""
    features = {split: people.features(split).astype(np.float32) for split in ("train", "test")}
    feature_map = FeatureMap.fit(features["train"])
    return vectors([feature_map], [features["train"]]), vectors([feature_map], [features["test"]])


def write_soft(run: Path, people: People, predictor: SoftAttributes) -> None:
    tables, ids, splits = [], [], []
    for split, u in zip(("train", "test"), features_of(people), strict=True):
        own = people.of_split(split)
        tables.append(predictor.predict(u, people.labels.labels[own]))
        ids += [people.labels.ids[position] for position in own]
        splits += [split] * len(own)
    np.savez(
        run / "developer" / "soft_attributes.npz",
        ids=np.array(ids),
        split=np.array(splits),
        soft=np.concatenate(tables),
        groups=np.array(people.categories),
    )


def onehots(people: People, rows: Any) -> list[Any]:
    return [np.eye(k, dtype=np.int64)[people.truth[rows, a]] for a, k in enumerate(people.categories)]


def moment_run(run: Path, people: People, persons: tuple[str, ...] | None = None) -> Path:
    train, labels = people.of_split("train"), people.labels.labels
    write_predictions(run, people, 0.1, seed=2)
    u, _ = features_of(people)
    plan = MomentPlan(people.categories, 2, u.shape[1], weighted=persons is not None)
    cost = gaussian_cost(people.settings.privacy.epsilon, people.settings.privacy.delta)
    rows, columns = quantise(u, plan), attribute_columns(onehots(people, train), persons)
    exact = np.concatenate([rows[labels[train] == c].T @ columns[labels[train] == c] for c in (0, 1)], axis=1)
    moment = noised(exact, plan, cost)
    with DisclosureLog(run / "developer", "moment", store=True) as log:
        log.add(0, "moment with noise", moment, train, unit=plan.unit, epsilon=people.settings.privacy.epsilon)
    count = None if persons is None else len(set(persons))
    write_soft(run, people, from_moment(u, labels[train], moment, plan, plan.noise_scale(cost), count))
    write_summary(run, people)
    return run


def response_run(run: Path, people: People) -> Path:
    train, labels = people.of_split("train"), people.labels.labels
    write_predictions(run, people, 0.1, seed=3)
    epsilon = split_epsilon(people.settings.privacy.epsilon, len(people.categories))
    answers = np.stack([flip(people.truth[train, a], k, epsilon) for a, k in enumerate(people.categories)])
    with DisclosureLog(run / "developer", "randomized-response", store=True) as log:
        log.add(0, "randomized response", answers, train, epsilon=people.settings.privacy.epsilon)
    tables = [debias(answer, k, epsilon) for answer, k in zip(answers, people.categories, strict=True)]
    u, _ = features_of(people)
    variances = [variance(k, epsilon) for k in people.categories]
    write_soft(run, people, from_responses(u, labels[train], 2, tables, variances))
    write_summary(run, people)
    return run


def scores(block: dict[str, Any], attack: str) -> dict[str, Any]:
    (found,) = (line for line in block["attacks"] if line["attack"] == attack)
    return found  # type: ignore[no-any-return]
