"""`secure-fair config`: the files it writes can be read, and what it shows is what holds."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from secure_fair import sections, settings
from secure_fair.cli import config, main
from secure_fair.errors import SettingsError
from secure_fair.privacy import policy


def test_every_key_has_a_comment_and_no_comment_is_left_over() -> None:
    defaults = settings.Settings().model_dump()
    sections = {name for name, value in defaults.items() if isinstance(value, dict)}
    keys = {key for key, _ in config.leaves(defaults)} - {"version"}
    assert set(config.COMMENTS) == sections | keys
    assert set(config.OPTIONAL) | set(config.EXAMPLES) <= keys


def test_a_new_file_gives_the_defaults_and_the_examples(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    assert main.run(["config", "init", str(file)]) == 0
    loaded = settings.load(file)
    expected = settings.load(
        None,
        (
            f"data.root={str(tmp_path / 'prepared/developer')!r}",
            f"attributes.file={str(tmp_path / 'prepared/auditor/attributes.csv')!r}",
            'attributes.columns=["Male"]',
        ),
    )
    assert loaded == expected


def test_a_new_file_with_every_comment_sign_removed_is_valid_too(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", config.settings_text())
    file = tmp_path / "settings.toml"
    file.write_text(text)
    loaded = settings.load(file)
    for key, value in config.OPTIONAL.items():
        section, _, name = key.partition(".")
        assert tomllib.loads(text)[section][name] == value
        assert getattr(getattr(loaded, section), name) is not None


def test_a_new_policy_is_valid_and_allows_no_release_without_a_guarantee(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    assert main.run(["config", "init", "--policy", str(file)]) == 0
    loaded = policy.load(file)
    assert set(loaded.releases) == {"moment", "audit"}
    assert set(policy.Policy.model_fields) == set(re.findall(r"(?m)^(?:# )?(\w+) = ", config.POLICY))


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("mine")
    assert main.run(["config", "init", str(file)]) == 1
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main.run(["config", "init", str(file), "--force"]) == 0
    assert file.read_text() == config.settings_text()


def test_show_names_the_source_of_each_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[training]\nepochs = 7\nseed = 3\n[network]\npeers = { dealer = 'd:1' }\n")
    arguments = ["config", "show", "-c", str(file), "--set", "training.seed=5", "--json"]
    assert main.run(arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"] == settings.load(file, ("training.seed=5",)).model_dump(mode="json")
    sources = shown["sources"]
    assert sources["training.epochs"] == sources["network.peers"] == str(file)
    assert sources["training.seed"] == "--set"
    assert sources["training.batch_size"] == "default"


def test_what_is_shown_can_be_used_as_a_settings_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ("training.learning_rate=3e-05", "model.weights='ünï \"x\".bin'", "fairness.weight=1.5")
    assert main.run(["config", "show", *(part for text in overrides for part in ("--set", text))]) == 0
    file = tmp_path / "shown.toml"
    file.write_text(capsys.readouterr().out)
    assert settings.load(file) == settings.load(None, overrides)


def test_show_refuses_an_unknown_key_and_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "show", "--set", "training.epoch=1"]) == 1
    assert "did you mean `epochs`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("", ("training.epoch=1",), "{file} with --set training.epoch: unknown key `training.epoch`; did you mean"),
        ("", ("trainin.epochs=1",), "{file} with --set trainin.epochs: unknown key `trainin`; did you mean"),
        ("", ("training.epochs=9", "training.epochs=0"), "{file} with --set training.epochs: `training.epochs`: "),
        ("[training]\nepoch = 1\n", ("training.epochs=1",), "{file}: unknown key `training.epoch`; did you mean"),
    ],
)
def test_a_mistake_in_set_is_not_the_files(tmp_path: Path, text: str, overrides: tuple[str, ...], said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        settings.load(file, overrides)
    assert str(caught.value).startswith(said.format(file=file))


def test_a_damaged_file_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[training\n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        settings.load(file)
    assert main.run(["config", "show", "-c", str(file)]) == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adversary.learning_rate=30", "learning_rate * weight_decay = 1.5 is above 1"),  # weight_decay 0.05
        ("training.epochs=10001", "`training.epochs`"),
        ("training.batch_size=2147483648", "`training.batch_size`"),
        ("training.checkpoint_steps=2147483648", "`training.checkpoint_steps`"),
        (f"training.seed={sections.MAX_SEED}", "`training.seed`"),
    ],
)
def test_what_a_run_would_fail_of_later_is_no_setting(override: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load(None, (override,))
    assert said in str(caught.value)
