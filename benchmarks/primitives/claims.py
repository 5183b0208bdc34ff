"""What this project says of its protocols, held against the rows of one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Row = dict[str, Any]
ERROR_LIMIT = 1e-4


@dataclass(frozen=True)
class Claim:
    """A statement with its limit and what was measured; `met` is None where a system did not run."""

    text: str
    limit: float
    measured: float | None
    met: bool | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(rows: Sequence[Row]) -> list[Claim]:
    """Every claim; those on time are ratios of medians within the run."""
    return list(_claims(rows))


def _claims(rows: Sequence[Row]) -> Iterator[Claim]:
    step = {op: _find(rows, op, "secure-fair") for op in ("adv", "orth-parity", "orth-odds")}
    for op, rounds in (("adv", 4), ("orth-parity", 2), ("orth-odds", 3)):
        own = step[op]
        yield _at_most(f"{op}: rounds", rounds, None if own is None else own["rounds"])
        yield _at_most(f"{op}: bytes over the floor", 1.25, _over_floor(own))
    for op, system, variant, times in (
        ("adv", "crypten-ttp", "autograd", 12),
        ("adv", "crypten-tfp", "autograd", 5),
        ("adv", "spu", None, 4),
        ("orth-parity", "crypten-ttp", None, 5),
        ("orth-odds", "crypten-ttp", None, 3),
    ):
        other = _find(rows, op, system, variant)
        name = f"{op}: times faster than {system}{f' ({variant})' if variant else ''}"
        yield _at_least(name, times, _ratio(other, step[op]))
    sigmoids = [row for row in rows if (row["op"], row["system"]) == ("sigmoid", "secure-fair")]
    for row in sigmoids:
        yield _at_most(f"sigmoid of {row['n']}: rounds", 1, row["rounds"])
        most = max(row["bytes_sent"], row["bytes_received"]) / row["n"]
        yield _at_most(f"sigmoid of {row['n']}: bytes an element each way", 4, most)
        yield _at_most(f"sigmoid of {row['n']}: largest error over the range", ERROR_LIMIT, row["max_error"])


def _find(rows: Iterable[Row], op: str, system: str, variant: str | None = None) -> Row | None:
    wanted = (op, system, variant)
    found = [row for row in rows if (row["op"], row["system"], row["variant"]) == wanted and not row["reason"]]
    return found[0] if found else None


def _over_floor(row: Row | None) -> float | None:
    return None if row is None else (row["bytes_sent"] + row["bytes_received"]) / row["floor_bytes"]


def _ratio(other: Row | None, own: Row | None) -> float | None:
    return None if other is None or own is None else other["ms_median"] / own["ms_median"]


def _at_most(text: str, limit: float, measured: float | None) -> Claim:
    return Claim(f"{text}, at most", limit, measured, None if measured is None else measured <= limit)


def _at_least(text: str, limit: float, measured: float | None) -> Claim:
    return Claim(f"{text}, at least", limit, measured, None if measured is None else measured >= limit)


def lines(claims: Iterable[dict[str, Any]]) -> list[Sequence[str]]:
    """Cells: claim, limit, measured, verdict."""
    verdicts = {True: "met", False: "NOT MET", None: "not measured"}
    return [
        (
            claim["text"],
            f"{claim['limit']:g}",
            "" if claim["measured"] is None else f"{claim['measured']:.3g}",
            verdicts[claim["met"]],
        )
        for claim in claims
    ]
