"""Processes that work through a list of jobs, each on a device of its own."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Generic, Self, TypeVar

from parties.launch import STOP_SECONDS
from secure_fair.data.faces import start_worker
from secure_fair.errors import InterruptedRunError, RunError, SecureFairError

END_SECONDS = STOP_SECONDS + 5.0  # a worker that is asked to end has so long to end the parties of its simulation
Job = TypeVar("Job")
Work = Callable[[Job, str | None], float]  # the job, the worker's device; returns seconds
Say = Callable[[str], None]


@dataclass
class _Worker(Generic[Job]):
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None

    def end(self, deadline: float) -> None:
        """Give it time until `deadline`, by the monotonic clock, to end by itself."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        self.process.kill()  # its parties notice
        self.process.join()
        self.pipe.close()


class Workers(Generic[Job]):
    """At most `count` processes, which start when there is work; a context that no process outlives.

    A worker keeps its device, the devices in turn, so two work on one only where there are more workers than devices.
    """

    def __init__(self, work: Work[Job], count: int, devices: Sequence[str], say: Say) -> None:
        self._work, self._count, self._devices, self._say = work, count, devices, say
        self._workers: list[_Worker[Job]] = []
        self._context = multiprocessing.get_context("spawn")  # torch and threads do not survive a fork

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End them at once, in the middle of a job too, and with it the parties of a simulation."""
        for worker in self._workers:
            worker.process.terminate()  # ends a training, and is an InterruptedRunError to a simulation
        deadline = time.monotonic() + END_SECONDS
        try:
            if running := [str(worker.job) for worker in self._workers if worker.job is not None]:
                self._say(f"ending what runs: {', '.join(running)}")
        finally:  # nobody may hear it any more
            for worker in self._workers:
                worker.end(deadline)

    def run(self, jobs: Iterable[Job]) -> None:
        """Do all of them. After a first error none is begun any more; raised when those that run are done."""
        waiting = deque(jobs)
        total, done, failure = len(waiting), 0, None
        while True:
            while waiting and failure is None and (free := self._free()) is not None:
                free.job = waiting.popleft()
                with suppress(OSError):  # it has died while it had no job: the end of its pipe says so
                    free.pipe.send(free.job)
            running = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            if not running:
                break
            for pipe in wait(list(running)):
                worker = running[pipe]  # type: ignore[index]
                job, found = worker.job, self._result(worker)
                if isinstance(found, float):
                    done += 1
                    self._say(f"{done} of {total}: {job} ({found:.0f} s)")
                    continue
                failure = failure or found
                if len(running) > 1:
                    self._say(f"{job} failed ({found}); waiting for what runs, and beginning nothing more")
        if failure is not None:
            raise failure

    def _free(self) -> _Worker[Job] | None:
        """A worker without a job, a new one while there are fewer than there may be."""
        for worker in self._workers:
            if worker.job is None:
                return worker
        if len(self._workers) == self._count:
            return None
        device = self._devices[len(self._workers) % len(self._devices)] if self._devices else None
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work, device))
        process.start()
        theirs.close()  # the worker's own is the last: when it dies, ours ends
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _result(self, worker: _Worker[Job]) -> float | Exception:
        """What a worker has sent at the end of its job; one that has died is forgotten."""
        job, worker.job = worker.job, None
        try:
            found: float | Exception = worker.pipe.recv()
        except (EOFError, OSError):
            worker.end(time.monotonic() + END_SECONDS)
            self._workers.remove(worker)
            return RunError(f"{job}: its process died with status {worker.process.exitcode}; run the command again")
        return found


def _serve(pipe: Connection, work: Work[Job], device: str | None) -> None:
    """In a worker: job after job, until it is ended."""
    start_worker()
    while True:
        try:
            job = pipe.recv()
        except EOFError:  # the parent has gone
            return
        try:
            pipe.send(work(job, device))
        except InterruptedRunError:
            return
        except SecureFairError as error:
            pipe.send(type(error)(f"{job}: {error}"))
        except OSError as error:
            pipe.send(RunError(f"{job}: {error}"))
        except Exception as error:  # noqa: BLE001 whatever it is, the others' results count
            traceback.print_exc()
            pipe.send(RunError(f"{job}: unexpected {type(error).__name__}: {error}; report the traceback above"))
