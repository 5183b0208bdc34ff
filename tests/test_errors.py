"""The tree of exceptions in the docstring."""

from __future__ import annotations

import re

from secure_fair import errors


def test_the_tree_of_exceptions_is_that_of_the_classes() -> None:
    """In errors.py's docstring: each class once, below its base."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([ |+-]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            assert [base.__name__ for base in getattr(errors, found[2]).__mro__[: depth + 1]] == path[::-1]
    drawn = re.findall(r"^[ |+-]*(\w+Error)\b", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(name for name in vars(errors) if name.endswith("Error"))
