"""Audits that are refused, before anything is opened and in words that tell no attribute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parties.audit_messages import AuditHello
from parties.links import ENDED as TOLD_DEALER
from parties.messages import PROTOCOL_VERSION
from secure_fair import settings
from secure_fair.errors import PeerRefusedError
from secure_fair.mpc.kinds import Kind
from tests.parties.audits import RECORDS, Audits, codes


def test_exact_counts_of_other_records_are_refused(audits: Callable[..., Audits]) -> None:
    place = audits(audits='"exact"', audit_sets='["sha256:' + 64 * "0" + '"]')
    commands = place.run()
    assert "exact audits are for frozen sets of records" in commands["developer"].errors[0]
    assert (place.opened(), place.debits()) == ([], [])


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown ids": ({}, "auditor", "1 of 600 record ids are not in the auditor's table"),
    "few records": ({}, "auditor", "no count of 19 records can reach the auditor's min_group, 20"),
    "other settings": ({"privacy__epsilon": 1.0}, "auditor", "different settings"),
    "other categories": (
        {"audit__categories": '{ Sex = ["f", "m", "x"] }'},
        "developer",
        "the auditor's categories of Sex are f, m, and not those of audit.categories",
    ),
    "labels outside": ({"audit__classes": '["1", "2"]'}, "developer", "label '0' is not one of 1, 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_opened(audits: Callable[..., Audits], case: str) -> None:
    changed, role, told = BAD[case]
    place = audits()
    if case == "few records":
        place.predictions.write_text("".join(place.predictions.read_text().splitlines(keepends=True)[:20]))
    if case == "unknown ids":
        place.write("predictions.csv", "id", "label", "prediction", id=["stranger", *place.truth["id"][1:]])
    # A table is read before anybody is asked, so the others wait for a developer that does not come.
    commands = place.run(wait=6, **changed)
    assert codes(commands)["developer"] == 1
    assert told in commands[role].errors[0]
    if case == "unknown ids":  # the dealer hears that, and nothing of ids
        assert TOLD_DEALER in commands["dealer"].errors[0]
        assert "600" not in commands["dealer"].text
    assert (place.opened(), place.debits()) == ([], [])


def test_an_attribute_that_is_not_in_the_table(audits: Callable[..., Audits]) -> None:
    place = audits()
    place.write("attributes.csv", "id", "Sex")
    commands = place.run(wait=6)
    assert "no column 'Age'" in commands["auditor"].errors[0]
    assert (place.opened(), place.debits()) == ([], [])


def test_refusals_say_the_same_whatever_the_attributes(audits: Callable[..., Audits]) -> None:
    """Two tables that differ in every attribute: equal words, equal debits."""
    place = audits(epsilon="1.0")
    told = []
    for swapped in (False, True):
        if swapped:
            other = {"f": "m", "m": "f", "young": "old", "old": "young"}
            changes = {name: [other[value] for value in place.truth[name]] for name in ("Sex", "Age")}
            place.write("attributes.csv", "id", "Sex", "Age", **changes)
        commands = place.run()
        told.append((commands["developer"].errors, commands["auditor"].errors, place.opened(), place.debits()))
    assert "would exceed the policy's epsilon 1" in told[0][0][0]
    assert told[0] == told[1]


HELLO = AuditHello(PROTOCOL_VERSION, "00", "", RECORDS, classes=2, bins=0, bits=0, predictions="", earlier="")

ASKED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one class": ({"classes": 1}, {}, "an audit of 1 classes"),
    "an odd number of bins": ({"bins": 3}, {}, "an even number of bins"),
    "no record": ({"records": 0}, {}, "numbers make no sense"),
    "more records than there are": ({"records": RECORDS + 1}, {}, "601 records are more than the auditor's table has"),
    "records that fill the memory": ({"records": 2**26}, {}, "67108864 records are more than the auditor's table has"),
    "another protocol": ({"protocol": 99}, {}, "speaks protocol 99"),
    "other settings": ({"settings": "x"}, {}, "different settings"),
    "a policy without audits": ({}, {"releases": '["moment"]'}, "release 'audit' is not allowed"),
    "another developer": ({}, {"developers": f'["sha256:{64 * "0"}"]'}, "is not in the auditor's policy"),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_a_developer_must_not_ask(audits: Callable[..., Audits], case: str) -> None:
    """Said to the developer before the auditor has answered anything."""
    changes, policy, told = ASKED[case]
    place = audits(**policy)
    command = place.auditor()
    asked = replace(HELLO, settings=settings.load(place.folder / "settings.toml").audit_digest())
    with place.deployment.connect("auditor") as connection:
        connection.send(Kind.HELLO, replace(asked, **changes).encode())
        with pytest.raises(PeerRefusedError, match=told):
            connection.receive(Kind.HELLO)
    assert command.wait() == 1
    assert place.debits() == []
