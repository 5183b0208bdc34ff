"""A party's structured log: one JSON object a line, of public facts only; no attribute, no share, no key."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

JOURNAL = "log.jsonl"  # in a party's folder
Fact = str | int | float
_TRANSPORT = logging.getLogger("secure_fair.transport")


class Journal(logging.Handler):
    """Appends lines `{"time", "party", "event", ...facts}`; what the transport warns of is an event too."""

    def __init__(self, folder: Path, party: str) -> None:
        super().__init__(logging.WARNING)
        self._party = party
        self._writing = threading.Lock()
        self._stream = (folder / JOURNAL).open("a", buffering=1, encoding="utf-8")

    def __call__(self, event: str, /, **facts: Fact) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "party": self._party, "event": event, **facts})
        with self._writing:
            self._stream.write(line + "\n")

    def __enter__(self) -> Self:
        _TRANSPORT.addHandler(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _TRANSPORT.removeHandler(self)
        self._stream.close()

    def emit(self, record: logging.LogRecord) -> None:
        """A warning of the transport: here, and on standard error as without us."""
        self("warning", text=record.getMessage())
        if logging.lastResort is not None:
            logging.lastResort.handle(record)
