"""An experiment's data and settings: OUT/data/PAIR/ with made.json (from what), faces/, prepared/ and settings.toml."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from parties.earlier import difference, facts
from parties.experiment_file import Experiment, Pair
from secure_fair.data.source import Source
from secure_fair.errors import RunError, SettingsError
from secure_fair.files import write_json, write_text
from secure_fair.settings import Settings, parse

MADE, VERSION = "made.json", 1
Steps = Callable[[str, int, int], None]


def prepared(out: Path, pair: str) -> Path:
    """The folder of the pair's two sides."""
    return out / "data" / pair / "prepared"


def settings_file(out: Path, pair: str) -> Path:
    """The settings that all parties of the pair's runs read."""
    return out / "data" / pair / "settings.toml"


def require_same(experiment: Experiment, out: Path) -> None:
    """Raise RunError when what OUT has was made from another file, and name the first key that differs.

    Data without made.json count as other data: nobody knows what they were made from.
    """
    for pair in experiment.pairs:
        folder = out / "data" / pair.name
        found = None
        if any((folder / name).exists() for name in (MADE, "faces", "prepared")):
            found = difference(_made(folder / MADE, pair.name), _description(pair, experiment.auditor_images))
        if found is None and (file := settings_file(out, pair.name)).exists():
            now = parse(Settings, _content(experiment, pair, out), "FILE")
            found = difference(_facts(_earlier_settings(file)), _facts(now))
        if found is not None:
            raise _other(folder, f"made with other settings: {found}")


def prepare_pair(experiment: Experiment, pair: Pair, out: Path, steps: Steps) -> None:
    """Draw or read the pair's data set, split it, write its settings; what is there already is kept."""
    from secure_fair.data.prepare import PrepareSettings, prepare

    folder = out / "data" / pair.name
    folder.mkdir(parents=True, exist_ok=True)
    # Before there are any data: an interruption leaves none of which nobody knows what they were made from.
    write_json(folder / MADE, {"version": VERSION, **_description(pair, experiment.auditor_images)})
    if not prepared(out, pair.name).exists():
        root = pair.root or _drawn(pair, folder / "faces", lambda d, t: steps(f"drawing {pair.name}", d, t))
        sensitive = tuple(dict.fromkeys(pair.attribute.split("*")))
        chosen = PrepareSettings(pair.task, sensitive, pair.join, pair.person, experiment.auditor_images)
        source = _source(pair, root)
        prepare(source, prepared(out, pair.name), chosen, lambda d, t: steps(f"splitting {pair.name}", d, t))
    write_text(settings_file(out, pair.name), tomli_w.dumps(_content(experiment, pair, out)))


def _description(pair: Pair, auditor_images: float) -> dict[str, Any]:
    """What a pair's data are made from."""
    table = pair.model_dump(mode="json")
    return table | {"root": None if pair.root is None else str(pair.root.resolve()), "auditor_images": auditor_images}


def _made(file: Path, name: str) -> dict[str, Any]:
    """The description in made.json, with today's defaults for keys that it is too old to have."""
    try:
        table = json.loads(file.read_text())
        if table.pop("version") != VERSION:
            raise ValueError
        auditor_images = float(table.pop("auditor_images"))
        return _description(parse(Pair, table, str(file)), auditor_images)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SettingsError):
        what = f"{MADE} is missing, damaged or of another version: nobody knows what the data of {name} were made from"
        raise _other(file.parent, what) from None


def _facts(settings: Settings) -> dict[str, Any]:
    """Without the two folders, which lie beside the file, however it names them."""
    data = settings.data.model_copy(update={"root": None})
    attributes = settings.attributes.model_copy(update={"file": None})
    return facts(settings.model_copy(update={"data": data, "attributes": attributes}))


def _earlier_settings(file: Path) -> Settings:
    try:
        return parse(Settings, tomllib.loads(file.read_text()), "its settings")
    except (OSError, ValueError, SettingsError) as error:
        raise _other(file.parent, f"settings.toml cannot be read ({error})") from None


def _other(folder: Path, what: str) -> RunError:
    return RunError(f"{folder}: {what}; name another --out, or remove this folder and the runs of this pair")


def _content(experiment: Experiment, pair: Pair, out: Path) -> dict[str, Any]:
    """The pair's settings as a table."""
    folder = prepared(out, pair.name).relative_to(settings_file(out, pair.name).parent)
    content: dict[str, Any] = experiment.settings.model_dump(mode="json", exclude={"network": True}, exclude_none=True)
    content["data"]["root"] = str(folder / "developer")
    content["attributes"] = {"file": str(folder / "auditor" / "attributes.csv"), "columns": [pair.attribute]}
    return content


def _drawn(pair: Pair, root: Path, progress: Callable[[int, int], None]) -> Path:
    """The folder of the pair's faces."""
    from secure_fair.data.faces import FaceSettings, draw

    drawn = pair.faces
    assert drawn is not None  # noqa: S101 (the file's validation: root or faces)
    if not root.exists():
        utk = {"Age": "Young", "Gender": "Male", "Race": "SkinTone"} if pair.layout == "utkface" else {}
        faces = FaceSettings(
            count=drawn.count,
            seed=drawn.seed,
            layout=pair.layout,
            task=utk.get(pair.task, pair.task),
            attribute=utk.get(pair.attribute, pair.attribute.partition("*")[0]),
            correlation=drawn.correlation,
            balanced_test=drawn.balanced_test and pair.layout == "celeba",
            overlap=drawn.overlap,
            size=(drawn.size, drawn.size),
            workers=os.cpu_count() or 1,
            shares=drawn.shares,
            rate=drawn.rate,
        )
        draw(root, faces, progress)
    return root


def _source(pair: Pair, root: Path) -> Source:
    from secure_fair.data import celeba, utkface

    return celeba.read(root) if pair.layout == "celeba" else utkface.read(root, pair.age_bins)
