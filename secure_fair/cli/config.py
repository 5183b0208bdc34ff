"""`secure-fair config`: write a commented settings or policy file; show the effective settings and their sources."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pydantic

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.errors import SettingsError

# One comment for each key of the settings; a test compares the keys with those of secure_fair.settings.
COMMENTS = {
    "data": "developer: the folder that `secure-fair data prepare` wrote",
    "data.root": "labels.csv and images/",
    "data.image_size": "pixels a side, as the backbone sees them",
    "data.workers": "threads that decode images; 0: none beside the training itself",
    "attributes": "auditor: only the auditor's process reads this file",
    "attributes.file": "attributes.csv",
    "attributes.columns": "the sensitive attributes to be fair about",
    "attributes.alignment": '"list": both have the same record ids; "psi": find the common ones in private (extra psi)',
    "model": "the frozen backbone",
    "model.backbone": "any timm ViT, by its name",
    "model.weights": '"imagenet", "random", "demo" (shipped, procedural faces) or a .safetensors file',
    "lora": "the adapter that is trained",
    "lora.rank": "width of the low-rank update",
    "lora.alpha": "the update is scaled by alpha / rank",
    "lora.dropout": "on the adapter's input",
    "lora.targets": "names of the linear layers of each block that get an adapter",
    "training": "task loss, AdamW on adapter and head",
    "training.epochs": "passes over the training images",
    "training.batch_size": "images a step; the last batch of an epoch may be shorter",
    "training.micro_batch_size": "images in memory at once, at the price of a second forward pass; 0: the whole batch",
    "training.learning_rate": "of AdamW",
    "training.weight_decay": "of AdamW",
    "training.seed": "of head, adapter, order of images and adversary",
    "training.device": '"auto" (the GPU where there is one), "cpu", "cuda", "cuda:1"',
    "training.precision": 'on a GPU: "bf16" or "fp32"; the CPU always computes in fp32',
    "training.threads": "CPU threads of the developer; 0: torch decides",
    "training.checkpoint_steps": "a checkpoint every so many steps, and after each epoch",
    "training.delayed": "apply a batch's gradient one step later, so that no step waits for the auditor",
    "training.balanced": "weigh each class by the inverse of its share: for a rare class",
    "fairness": "the fairness term",
    "fairness.weight": "absent: by method and release, see docs/settings.md",
    "fairness.factors": 'of `orth-adapter`: "A" or "AB"',
    "fairness.criterion": '"odds" (within each task class) or "parity"',
    "adversary": "of `adv`: plain SGD; its weight decay bounds the logits, which the secure sigmoid needs",
    "adversary.learning_rate": "of the adversary's SGD",
    "adversary.hidden": "units of a random, fixed hidden layer; 0: a linear adversary",
    "adversary.weight_decay": "at least 0.036: |logit| <= 2 / weight_decay",
    "network": "one party of a real deployment; `secure-fair simulate` fills this in",
    "network.listen": "host:port to accept the other parties at",
    "network.peers": "host:port of the other parties",
    "network.certificate": "this party's own, see `secure-fair certs init`",
    "network.key": "its private key, readable by this party's user only",
    "network.ca": "the authority that signed all three",
    "network.fingerprints": "pinned certificates of the other parties; a list where several developers are served",
    "network.timeout_seconds": "silence after which a peer counts as stalled",
    "network.idle_timeout_seconds": "how long a peer may be alive without going on",
    "network.prefetch": "steps that the dealer may deal ahead; 0: each when it is asked for",
    "network.start_timeout_seconds": "how long to wait for the other parties to start",
    "privacy": "what the developer asks of a private release; the auditor's policy decides whether it is granted",
    "privacy.epsilon": "of one person's attributes, for this run",
    "privacy.delta": "of (epsilon, delta)-differential privacy",
    "privacy.refresh": '"once", or "epoch" (one release an epoch, which share epsilon)',
    "privacy.rank": "project features to this many dimensions first; 0: do not",
    "privacy.clip": "fixed-point scale of the feature vectors; the noise scales with it: rounding and range only",
    "sensitive": "auditor: the LoRA that it trains on images of its own, for adapter, adapter-gradient and predictor",
    "sensitive.private": "under DP with [privacy]'s epsilon and delta, by DP-SGD (extra dp); false: no guarantee",
    "sensitive.clip": "length that a person's gradient is clipped to; the noise scales with it",
    "audit": "developer: the table that is audited, and what an auditor may see of it",
    "audit.predictions": "CSV or Parquet: id, label, and prediction or score",
    "audit.threshold": "take the column `score`; from here on it is the second class",
    "audit.classes": "all classes, in order; empty: those that the table shows",
    "audit.split": "only the rows of this `split`; empty: all",
    "audit.bins": "calibration and score distributions, in so many bins of the score (even); 0: none",
    "audit.range": "of a regression: labels and predictions are numbers from the first to the second",
    "audit.smallest_cell": "what an auditor gets to see holds no smaller count",
    "audit.categories": "attribute -> its categories, fixed before; an auditor with others is refused",
    "audit.commitment": "of the auditor's table, from an earlier audit.json; another table is refused",
    "audit.share_result": "whether an auditor that wants the result gets it",
    "privacy.store_values": "keep the values that were opened in disclosures.jsonl, so that attacks can be run on them",
}
# Active in a new file although there is no default: a run needs them.
EXAMPLES = {
    "data.root": "prepared/developer",
    "attributes.file": "prepared/auditor/attributes.csv",
    "attributes.columns": ["Male"],
}
# Shown commented out: most runs leave them alone.
OPTIONAL = {
    "fairness.weight": 200.0,
    "audit.predictions": "predictions.csv",
    "audit.threshold": 0.5,
    "audit.range": [0.0, 100.0],
    "audit.commitment": "sha256:" + 64 * "0",
    "network.listen": "0.0.0.0:7400",
    "network.peers": {"auditor": "auditor.example:7400", "dealer": "dealer.example:7400"},
    "network.certificate": "developer.crt",
    "network.key": "developer.key",
    "network.ca": "ca.crt",
    "network.fingerprints": {"auditor": "sha256:...", "dealer": "sha256:..."},
}

POLICY = """\
# What this auditor allows, in any run, whatever a developer asks for. The developer never sees this file.
# Unknown keys are errors.

[policy]
version = 1
releases = ["moment", "audit"]          # "gradient" is not here: it gives the developer every attribute
epsilon = 4.0                           # per person, over the life of the attributes, all runs together
delta = 1e-5                            # of (epsilon, delta)-differential privacy
min_group = 20                          # a smaller group is not reported in an audit
min_intersection = 100                  # alignment "psi": a run about fewer common training records is refused
audits = "noised"                       # or "exact", for the sets of records that audit_sets names
audit_sets = []                         # "sha256:...", from `secure-fair audit freeze`; nobody in them has a budget
max_audits = 1                          # exact audits of one set: the differences of several tell about single people
audit_to = "developer"                  # or "both": the auditor gets the result too, if the developer agrees
categories = { Male = ["no", "yes"] }   # public: taken from here, never from the data
# person = "identity"                   # column that says which records are one person; absent: one record, one person
developers = []                         # "sha256:...", fingerprints of the certificates of the developers to serve
"""


@click.group(epilog="Example: secure-fair config init settings.toml")
def config() -> None:
    """Write a commented settings or policy file; show the effective settings."""


@config.command(epilog="Example: secure-fair config init --policy policy.toml")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--policy", is_flag=True, help="Write the auditor's policy file instead of a settings file.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def init(file: Path, policy: bool, force: bool) -> None:
    """Write FILE with every key, its default and a comment."""
    text = POLICY if policy else settings_text()
    try:
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise SettingsError(f"{file}: exists already; choose another name, or overwrite it with --force") from None
    click.echo(f"wrote {file}")


@config.command(epilog="Example: secure-fair config show -c settings.toml --set training.epochs=1")
@click.option("-c", "--config", "file", type=click.Path(path_type=Path, dir_okay=False), help="Settings file.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
@console.json_option
def show(file: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show every effective setting and its source: default, the file, or --set."""
    effective = settings.load(file, overrides).model_dump(mode="json")
    sources = _sources(file, overrides)
    if as_json:
        named = {key: sources.get(key, "default") for key, _ in leaves(effective)}
        console.print_json({"settings": effective, "sources": named})
        return
    section = ""
    for key, value in leaves(effective):
        head, _, name = key.rpartition(".")
        if head != section:
            click.echo(f"\n[{head}]")
            section = head
        line = f"# {name} is not set" if value is None else f"{name} = {settings.toml(value)}"
        click.echo(f"{line:<60}  # {sources.get(key, 'default')}")


def settings_text() -> str:
    """A settings file in TOML: every section, key, default and comment."""
    lines = ["# Settings of secure-fair. Relative paths are relative to this file. Unknown keys are errors."]
    for section, table in settings.Settings().model_dump(mode="json").items():
        if not isinstance(table, dict):
            lines.append(f"{section} = {settings.toml(table)}")
            continue
        lines += ["", f"# {COMMENTS[section]}", f"[{section}]"]
        for name, default in table.items():
            key = f"{section}.{name}"
            off = "# " if key in OPTIONAL else ""
            value = OPTIONAL.get(key, EXAMPLES.get(key, default))
            lines.append(f"{off}{name} = {settings.toml(value)}".ljust(44) + f"  # {COMMENTS[key]}")
    return "\n".join(lines) + "\n"


def leaves(table: Mapping[str, Any], model: type[pydantic.BaseModel] = settings.Settings) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each setting; a value that is itself a table (peers) is one setting."""
    for key, value in table.items():
        inner = model.model_fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            yield from ((f"{key}.{name}", below) for name, below in leaves(value, inner))
        else:
            yield key, value


def _sources(file: Path | None, overrides: tuple[str, ...]) -> dict[str, str]:
    """Where each setting that is no default was set."""
    found: dict[str, str] = {}
    if file is not None:
        found = {key: str(file) for key, _ in leaves(tomllib.loads(file.read_text(encoding="utf-8")))}
    return found | {override.partition("=")[0].strip(): "--set" for override in overrides}
