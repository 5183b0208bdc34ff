"""What a process hears and says, written down from inside of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secure_fair.mpc.kinds import Kind
from secure_fair.transport.frames import Connection


def _when_received(note: Callable[[Connection, int, bytearray], None]) -> None:
    """Call `note` with every frame that this process receives from now on."""
    receive = Connection.receive

    def receiving(
        self: Connection,
        kind: int,
        size: int | None = None,
        max_size: int | None = None,
        *,
        within: float | None = None,
    ) -> bytearray:
        body = receive(self, kind, size, max_size, within=within)
        note(self, kind, body)
        return body

    Connection.receive = receiving  # type: ignore[method-assign]


def tap(file: Path) -> None:
    """Append what this process and its children receive from an auditor inside of steps to FILE.KIND."""

    def note(connection: Connection, kind: int, body: bytearray) -> None:
        if connection.peer == "auditor" and kind in (Kind.MASKED, Kind.OPEN):
            with file.with_suffix(f".{Kind(kind).name}").open("ab") as stream:
                stream.write(body)

    _when_received(note)


def record_frames(file: Path) -> None:
    """Append a line `peer direction kind size` to FILE for each frame between this process and developer or auditor."""
    send = Connection.send

    def note(connection: Connection, direction: str, kind: int, size: int) -> None:
        if connection.peer in ("auditor", "developer"):
            with file.open("a") as stream:
                stream.write(f"{connection.peer} {direction} {Kind(kind).name} {size}\n")

    def sending(self: Connection, kind: int, *buffers: bytes | bytearray | memoryview) -> None:
        note(self, "sent", kind, sum(memoryview(buffer).nbytes for buffer in buffers))
        send(self, kind, *buffers)

    _when_received(lambda connection, kind, body: note(connection, "received", kind, len(body)))
    Connection.send = sending  # type: ignore[method-assign]
