"""The auditor's ledger: what was released, and the privacy spent by each person, in SQLite.

Order of a release, kept by `Ledger.answer`: debit everybody in the request (durably), compute, store the answer
(durably), and only then hand the bytes to the caller to send. A crash may count a release that never left; it never
forgets one that did. An identical request gets the identical stored bytes and nothing is computed again: the same
noise on other inputs of the developer would cancel in a difference.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from secure_fair.errors import BudgetError
from secure_fair.privacy.accountant import NOTHING, UNBOUNDED, Budget, Cost
from secure_fair.privacy.ledger_store import LedgerStore

HASH_BYTES = 16  # of a person: a collision would merge two budgets, which counts too much and never too little
# A person without a row has spent nothing; NULL in `pure` (something was not pure DP) makes every sum with it NULL.
_COUNT_OVER = """
SELECT count(*) FROM batch LEFT JOIN persons USING (person)
WHERE coalesce(rho, 0) + :rho > :rho_limit
  AND (CASE WHEN rho IS NULL THEN 0 ELSE pure END + :pure <= :pure_limit) IS NOT TRUE
"""
_DEBIT = """
INSERT INTO persons SELECT person, :rho, :pure FROM batch WHERE true
ON CONFLICT (person) DO UPDATE SET rho = min(rho + excluded.rho, :most), pure = pure + excluded.pure
"""


def request_digest(request: Mapping[str, Any]) -> bytes:
    """SHA-256 of the canonical JSON of a request.

    Put in all that defines the answer: kind, ids in order, columns, epsilon, shapes, and a name that the developer
    chose for this answer (its own share fits one session only). Whatever differs is another request, and is debited.
    """
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).digest()


@dataclass(frozen=True)
class Release:
    """One line of the ledger: a debit of `persons` people, at the policy's `delta`; names nobody."""

    time: str
    kind: str
    persons: int
    cost: Cost
    delta: float
    answered: bool


@dataclass(frozen=True)
class Reservation:
    """A debited request; `answer` is there when it was answered before, and then nothing was debited now."""

    release: int
    answer: bytes | None


class People:
    """Keyed hashes of persons, each once, in order, packed: a million of them take 16 MB and not 60."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed) // HASH_BYTES

    def __iter__(self) -> Iterator[bytes]:
        return (self._packed[start : start + HASH_BYTES] for start in range(0, len(self._packed), HASH_BYTES))


class Ledger:
    """One auditor's ledger; several processes may open the file, each with its own `Ledger`, used by one thread.

    by_person: True if budgets are kept per value of the table's person column, False if each record is a person;
    a ledger keeps to one of the two. None opens an existing ledger to print it.
    Raises LedgerError if the file is damaged, restored, of another version, or without its key or counter.
    """

    def __init__(self, path: Path, by_person: bool | None) -> None:
        self._store = LedgerStore(path, by_person)
        self._db = self._store.database

    def close(self) -> None:
        """Close the file; a `with` block does it too."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(
        self,
        kind: str,
        request: bytes,
        persons: Iterable[str] | People,
        cost: Cost,
        budget: Budget,
        produce: Callable[[], bytes],
        *,
        exact: int | None = None,
    ) -> bytes:
        """The bytes to send for `request`: debited and stored before they are returned; the stored ones if known."""
        reservation = self.reserve(kind, request, persons, cost, budget, exact=exact)
        if reservation.answer is not None:
            return reservation.answer
        answer = produce()
        self.commit_answer(reservation, answer, exact=exact)
        return answer

    def reserve(
        self,
        kind: str,
        request: bytes,
        persons: Iterable[str] | People,
        cost: Cost,
        budget: Budget,
        *,
        exact: int | None = None,
    ) -> Reservation:
        """Debit each person once with `cost`, or nobody (BudgetError); an answered request costs nothing.

        exact: at most so many answers of this kind, and of nobody who has a bounded account: their budget would be
        void. Whoever was in one, answered or not, has none from then on.

        A request that was debited and not answered (a crash) is debited again. An unbounded cost (`gradient`) is
        recorded and not limited: allowing it is the policy's decision, and ends its people's bounded budget.
        """
        if (answered := self._answered(request)) is not None:
            return answered
        hashes = persons if isinstance(persons, People) else self._hashes(persons)
        with self._store.debiting():
            self._load_batch(hashes)
            self._require_budget(len(hashes), cost, budget)
            if exact is not None:
                self._require_exact(kind, len(hashes), exact)
            self._db.execute(_DEBIT, {"rho": cost.rho, "pure": cost.pure, "most": UNBOUNDED})
            now = datetime.now(UTC).isoformat(timespec="seconds")
            release = self._db.execute(
                "INSERT INTO releases (time, kind, request, persons, rho, pure, delta) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " RETURNING id",
                [now, kind, request, len(hashes), cost.rho, cost.pure, budget.delta],
            ).fetchone()[0]
        return Reservation(release, None)

    def stored(self, request: bytes) -> bytes | None:
        """The answer that was stored for this request, if any."""
        answered = self._answered(request)
        return None if answered is None else answered.answer

    def check(
        self, persons: Iterable[str] | People, cost: Cost, budget: Budget, *, kind: str = "", exact: int | None = None
    ) -> None:
        """Raise BudgetError if `reserve` would now; debits nothing. Spares both sides a protocol run in vain."""
        hashes = persons if isinstance(persons, People) else self._hashes(persons)
        with self._store.writing():
            self._load_batch(hashes)
            self._require_budget(len(hashes), cost, budget)
            if exact is not None:
                self._require_exact(kind, len(hashes), exact)

    def commit_answer(self, reservation: Reservation, answer: bytes, *, exact: int | None = None) -> None:
        """Store the answer durably; send it after this returns, not before. `exact` as for `reserve`."""
        with self._store.writing():
            if exact is not None:  # another process may have answered meanwhile
                query = "SELECT kind FROM releases WHERE id = ?"
                kind = self._db.execute(query, [reservation.release]).fetchone()[0]
                self._require_fewer(kind, exact)
            self._db.execute("UPDATE releases SET answer = ? WHERE id = ?", [answer, reservation.release])

    def people(self, persons: Iterable[str]) -> People:
        """For `check`, `reserve` and `answer`: the hashes of a million people take seconds, so once is enough."""
        return self._hashes(persons)

    def derived_key(self, purpose: str) -> bytes:
        """A secret of this ledger for another use than its own hashes."""
        return hmac.digest(self._store.key, b"derived\0" + purpose.encode(), "sha256")

    def memoise(self, question: str, persons: Sequence[str], drawn: Sequence[int]) -> list[int]:
        """For each person the value first drawn for `question`: that of `drawn` where there was none before."""
        hashes = [self._hash(person) for person in persons]
        with self._store.writing():
            rows = zip(hashes, [question] * len(hashes), drawn, strict=True)
            self._db.executemany("INSERT OR IGNORE INTO flips VALUES (?, ?, ?)", rows)
            stored = dict(self._db.execute("SELECT person, value FROM flips WHERE question = ?", [question]))
        return [stored[person] for person in hashes]

    def spent(self, person: str) -> Cost:
        """What the releases so far cost this person; for the auditor's own eyes."""
        row = self._db.execute("SELECT rho, pure FROM persons WHERE person = ?", [self._hash(person)]).fetchone()
        return NOTHING if row is None else Cost(*row)

    def releases(self) -> list[Release]:
        """Every release in order."""
        rows = self._db.execute(
            "SELECT time, kind, persons, rho, pure, delta, answer IS NOT NULL FROM releases ORDER BY id"
        )
        return [
            Release(time, kind, persons, Cost(rho, pure), delta, bool(answered))
            for time, kind, persons, rho, pure, delta, answered in rows
        ]

    def balances(self) -> list[tuple[Cost, int]]:
        """What was spent, and by how many persons."""
        rows = self._db.execute("SELECT rho, pure, count(*) FROM persons GROUP BY rho, pure")
        return [(Cost(rho, pure), count) for rho, pure, count in rows]

    def _answered(self, request: bytes) -> Reservation | None:
        row = self._db.execute(
            "SELECT id, answer FROM releases WHERE request = ? AND answer IS NOT NULL ORDER BY id LIMIT 1", [request]
        ).fetchone()
        return None if row is None else Reservation(*row)

    def _require_budget(self, persons: int, cost: Cost, budget: Budget) -> None:
        if not cost.bounded:
            return
        rho_limit, pure_limit = budget.limits
        limits = {"rho": cost.rho, "pure": cost.pure, "rho_limit": rho_limit, "pure_limit": pure_limit}
        over = self._db.execute(_COUNT_OVER, limits).fetchone()[0]
        if over:
            raise BudgetError(
                f"{over} of {persons} people in the request would exceed the policy's epsilon {budget.epsilon:g} "
                f"(delta {budget.delta:g}); ask for a smaller epsilon, or leave out the records that are spent"
            )

    def _require_exact(self, kind: str, persons: int, most: int) -> None:
        query = "SELECT count(*) FROM batch JOIN persons USING (person) WHERE rho < ?"
        accounts = self._db.execute(query, [UNBOUNDED]).fetchone()[0]
        if accounts:
            raise BudgetError(
                f"{accounts} of {persons} people in the request have a privacy budget in the ledger, which exact "
                "counts would void; audit people who are in no private release, or ask for a noised audit"
            )
        self._require_fewer(kind, most)

    def _require_fewer(self, kind: str, most: int) -> None:
        """What was debited and never answered has not left: it does not count."""
        query = "SELECT count(*) FROM releases WHERE kind = ? AND answer IS NOT NULL"
        done = self._db.execute(query, [kind]).fetchone()[0]
        if done >= most:
            raise BudgetError(
                f"these records were audited exactly {done} times, and the policy's max_audits is {most}; each more "
                "would tell about single people by its difference from the others"
            )

    def _hashes(self, persons: Iterable[str]) -> People:
        import numpy as np  # here, since who only looks at a ledger does not need it

        packed = bytearray()
        for person in persons:
            packed += self._hash(person)
        words = np.frombuffer(packed, dtype=">u8").reshape(-1, HASH_BYTES // 8)
        words = words[np.lexsort(words.T[::-1])]  # sorted: inserts follow the tree's order
        first = np.ones(len(words), dtype=bool)
        first[1:] = (words[1:] != words[:-1]).any(axis=1)
        return People(words[first].tobytes())

    def _hash(self, person: str) -> bytes:
        return hmac.digest(self._store.key, b"person\0" + person.encode(), "sha256")[:HASH_BYTES]

    def _load_batch(self, hashes: People) -> None:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS batch (person BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("DELETE FROM batch")
        self._db.executemany("INSERT INTO batch VALUES (?)", ((person,) for person in hashes))
