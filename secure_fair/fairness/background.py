"""A term whose conversation with the auditor runs in a thread of its own while training computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from secure_fair.fairness.terms import FairnessTerm


class Background:
    """`begin` hands the batch over and returns; `finish` waits for what the term made of it.

    It is of use to a loop that computes something between the two, as ours does with `training.delayed`. One batch is
    under way at a time, so the term, its channels and its shares see the same calls as without it, in the same order.
    """

    def __init__(self, term: FairnessTerm) -> None:
        self.name, self._term = term.name, term
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=term.name)
        self._answer: Future[Tensor] | None = None

    def prepare(self, labels: Tensor, positions: Tensor, /) -> None:
        self._term.prepare(labels, positions)

    def begin(self, h: Tensor, labels: Tensor, positions: Tensor, /) -> None:
        self._answer = self._thread.submit(self._ask, h, labels, positions)

    def _ask(self, h: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        self._term.begin(h, labels, positions)
        return self._term.finish()

    def finish(self) -> Tensor:
        assert self._answer is not None  # noqa: S101 (`begin` made it)
        answer, self._answer = self._answer, None
        return answer.result()

    def state(self) -> dict[str, Tensor]:
        return self._term.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        self._term.restore(state)

    def close(self) -> None:
        """A batch under way is given up: its channel is closed next, which ends the thread's wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._term.close()
