"""What is written as TOML reads back as it was, whatever a user calls things."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from secure_fair.privacy.policy import Policy, simulated
from secure_fair.settings import toml

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*\x7f"), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.lists(NAMES | st.integers(-9, 9) | st.booleans(), max_size=3), max_size=3))
def test_a_value(table: dict[str, list[str | int | bool]]) -> None:
    assert tomllib.loads(f"value = {toml(table)}")["value"] == table


@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=2, max_size=3, unique=True), min_size=1, max_size=3), NAMES)
def test_a_policy(categories: dict[str, list[str]], person: str) -> None:
    own = Policy(
        releases=("audit",),
        epsilon=2.0,
        delta=1e-5,
        min_group=3,
        audits="exact",
        categories={name: tuple(values) for name, values in categories.items()},
        person=person,
    )
    assert Policy.model_validate(tomllib.loads(simulated(own))["policy"]) == own
