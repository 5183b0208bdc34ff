"""The policy file and its decisions."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.errors import RefusedError, SettingsError
from secure_fair.privacy import policy
from secure_fair.privacy.policy import Policy

FINGERPRINT = "sha256:" + "ab" * 32
TEXT = f"""
[policy]
releases = ["moment", "audit"]
epsilon = 4.0
delta = 1e-5
min_group = 20
audits = "noised"
categories = {{ Male = ["no", "yes"], Tone = ["dark", "medium", "light"] }}
person = "identity"
developers = ["{FINGERPRINT}"]
"""


def load(tmp_path: Path, text: str = TEXT) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return policy.load(path)


def test_the_documented_file_loads(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.budget.epsilon == 4.0
    assert loaded.categories["Tone"] == ("dark", "medium", "light")
    assert (loaded.person, loaded.min_group, loaded.audits) == ("identity", 20, "noised")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("min_group", "min_groups", r"unknown key `policy\.min_groups`; did you mean `min_group`"),
        ("[policy]", "[polices]", r"unknown key `polices`; did you mean `policy`|`policy`: Field required"),
        ("epsilon = 4.0", "epsilon = -1", r"`policy\.epsilon`"),
        ("epsilon = 4.0", "epsilon = inf", r"`policy\.epsilon`"),
        ('"moment", "audit"', '"moments"', r"`policy\.releases\.0`"),
        ('["no", "yes"]', '["no"]', r"at least two categories"),
        ('["no", "yes"]', '["no", "no"]', r"all different"),
        ('["no", "yes"]', '["no", "a*b"]', r"joins attributes"),
        (FINGERPRINT, "sha256:short", r"`policy\.developers\.0`"),
        ("[policy]", "[policy]\nversion = 2", r"`policy\.version`"),
        ("[policy]", "[policy", r"not valid TOML"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(tmp_path, TEXT.replace(old, new))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config init --policy .*none\.toml`"):
        policy.load(tmp_path / "none.toml")


def test_releases_and_developers_are_refused_unless_named(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    loaded.require_release("moment")
    with pytest.raises(RefusedError, match="'gradient' is not allowed by the auditor's policy, which allows moment"):
        loaded.require_release("gradient")
    loaded.require_developer(FINGERPRINT)
    with pytest.raises(RefusedError, match="developers"):
        loaded.require_developer("sha256:" + "cd" * 32)
    for asked, quoted in (("y" * 500, r"'y{60}' is not"), ("\x1b[2J", r"'\\x1b\[2J' is not")):  # goes into logs
        with pytest.raises(RefusedError, match=quoted):
            loaded.require_release(asked)


def test_categories_and_intersections_come_from_the_policy(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.categories_of(["Tone", "Male*Tone"]) == (
        ("dark", "medium", "light"),
        ("no*dark", "no*medium", "no*light", "yes*dark", "yes*medium", "yes*light"),
    )
    for columns in ([], ["Age"], ["Male", "Male"], ["Male*Male"], ["Male*"], [""]):
        with pytest.raises(RefusedError, match="attribute"):
            loaded.categories_of(columns)
