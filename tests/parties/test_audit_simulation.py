"""A simulated audit before its processes start: what is wrong is said, and nothing is written."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from parties.audit_simulation import AuditSimulation, settings_text, simulate_audit
from secure_fair import settings
from secure_fair.errors import DataError, RunError, SecureFairError, SettingsError
from secure_fair.settings import Settings
from tests.parties.commands import Start

POLICY = '[policy]\nreleases = ["audit"]\nepsilon = 4.0\ndelta = 1e-5\n[policy.categories]\nSex = ["f", "m"]\n'


def write(folder: Path, values: str) -> None:
    """A record for each letter of `values`."""
    (folder / "a.csv").write_text("id,Sex\n" + "".join(f"r{i},{value}\n" for i, value in enumerate(values)))
    rows = "".join(f"r{i},{i % 2},{i // 2 % 2}\n" for i in range(len(values)))
    (folder / "p.csv").write_text(f"id,label,prediction\n{rows}")


def asked(folder: Path, *overrides: str) -> Settings:
    tables = (f"audit.predictions={folder / 'p.csv'}", f"attributes.file={folder / 'a.csv'}")
    return settings.load(None, (*tables, *overrides))


@pytest.mark.parametrize("by_policy", [False, True])
@pytest.mark.parametrize(
    ("override", "values", "told"),
    [
        ("attributes.file=none.csv", "fm", r"none\.csv: missing file"),
        ('attributes.columns=["Age"]', "fm", "Age"),
        ("audit.threshold=0.5", "fm", "no column 'score'"),
        ("audit.smallest_cell=20", "fx?", r"a\.csv"),
    ],
)
def test_a_mistake_leaves_no_folder(tmp_path: Path, override: str, values: str, told: str, by_policy: bool) -> None:
    write(tmp_path, values)
    if values == "fx?":
        (tmp_path / "a.csv").write_text("id,Sex\nr0,f\nr1,m\nr2,\n")  # a value that is missing
    (tmp_path / "policy.toml").write_text(POLICY)
    policy = tmp_path / "policy.toml" if by_policy else None
    with pytest.raises(SecureFairError, match=told):
        simulate_audit(AuditSimulation(asked(tmp_path, override), tmp_path / "out", policy))
    assert not (tmp_path / "out").exists()


def test_an_attribute_of_one_value_is_named(tmp_path: Path) -> None:
    write(tmp_path, "fff")
    with pytest.raises(DataError, match=r"a\.csv: column 'Sex' has fewer than two values; name the attributes"):
        simulate_audit(AuditSimulation(asked(tmp_path), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already; name another folder, or remove it"):
        simulate_audit(AuditSimulation(asked(tmp_path), tmp_path))


@pytest.mark.parametrize("override", ["privacy.delta=0.6", "privacy.epsilon=1e6", "privacy.epsilon=0"])
def test_settings_are_bounded_as_the_policy_is(override: str) -> None:
    with pytest.raises(SettingsError, match=override.split("=", maxsplit=1)[0]):
        settings.load(None, (override,))


def test_all_parties_read_what_was_set(tmp_path: Path) -> None:
    found = asked(tmp_path, "privacy.store_values=true", "network.timeout_seconds=7", "network.prefetch=3")
    table = tomllib.loads(settings_text(found))
    assert table["privacy"] == {"epsilon": 2.0, "delta": 1e-5, "store_values": True}
    assert table["network"]["timeout_seconds"] == 7.0
    assert table["network"]["prefetch"] == 3
    assert settings.parse(Settings, table, "settings.toml").network.timeout_seconds == 7.0


def test_few_records_are_warned_of(start: Start, tmp_path: Path) -> None:
    """Why nothing is shown and what to do; the true counts on the user's terminal only. The noise is below 1 here."""
    ids = [f"r{n}" for n in range(24)]
    (tmp_path / "p.csv").write_text("id,label,prediction\n" + "".join(f"r{n},{n % 2},1\n" for n in range(24)))
    (tmp_path / "a.csv").write_text("id,Sex\n" + "".join(f"{i},{'fm'[n < 17]}\n" for n, i in enumerate(ids)))
    tables = ["--predictions", str(tmp_path / "p.csv"), "--attributes", str(tmp_path / "a.csv")]
    command = start("audit", ["audit", "simulate", *tables, "--epsilon", "200", "--out", str(tmp_path / "out")])
    assert command.wait() == 0
    counts = "Sex=f, label 0 (3); Sex=f, label 1 (4); Sex=m, label 0 (9); Sex=m, label 1 (8)"
    assert f"warning: fewer than 10 records to test on of {counts}:" in command.text
    assert "warning: Sex: no fairness metric can be shown" in command.text
    assert "fewer than 20 people (the policy's min_group)" in command.text
    assert "audit more records, or ask for a larger privacy.epsilon" in command.text
    texts = [file.read_text() for file in tmp_path.rglob("out/**/*.*") if file.suffix in (".json", ".jsonl", ".txt")]
    assert len(texts) >= 4
    assert not any("records to test on" in text for text in texts)
