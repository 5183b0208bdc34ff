"""Frames with kind, sequence number and size limit (`wire.py` gives their form) over one TLS socket.

A reader thread empties the socket into a bounded queue, so that a peer's death is noticed at once and two parties may
send to each other at the same time; a heartbeat thread tells the peer that we are alive while we compute.
Nothing that arrives is trusted: version, sequence, kind and size are checked before memory is taken for a frame.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from secure_fair.errors import FrameError, PeerLostError, PeerRefusedError, PeerStalledError, TransportError
from secure_fair.transport.failures import stalled, unreadable
from secure_fair.transport.stream import StoppedError, TlsStream
from secure_fair.transport.wire import (
    CLOSE,
    ERROR,
    FIRST_KIND,
    HEADER,
    HEARTBEAT,
    MAX_ERROR_BYTES,
    VERSION,
    Expected,
    parse_header,
    printable,
)

FRAME_OVERHEAD = 256  # bytes of memory that a queued frame costs beside its body
RECORD = 16384  # bytes in a TLS record: smaller frames leave as one record
CLOSE_SECONDS = 1.0
MEBIBYTE = 1 << 20


class _Frame(NamedTuple):
    kind: int
    body: bytearray


class Connection:
    """Frames to and from one authenticated peer. Takes over the socket; use it as a context manager or `close` it.

    One thread receives; any thread may send. `timeout_seconds`: the peer is stalled when nothing at all, not even a
    heartbeat, came for so long; it is idle when for `idle_seconds` it was alive and did not send what we wait for.
    `max_frame`: the largest body taken, in bytes. `queue_bytes` (default: `max_frame`):
    when as much waits to be received, the reader stops reading, and TCP slows the peer down; two parties that send to
    each other before either receives need it to hold what they send, and a peer that dies meanwhile is noticed when
    reading goes on. `on_failure` is called once, from the reader
    thread, when the peer is lost, stalls, refuses or sends a bad frame, so that a long computation can be interrupted.

    Counters, without heartbeats and other control frames: `bytes_sent` and `bytes_received` with frame headers and
    without TLS (22 bytes more for each 16 KiB record begun) and TCP; `rounds`: how often we received after sending.
    """

    def __init__(
        self,
        sock: ssl.SSLSocket,
        peer: str,
        *,
        timeout_seconds: float = 30.0,
        idle_seconds: float = 3600.0,
        max_frame: int = 256 * MEBIBYTE,
        queue_bytes: int | None = None,
        on_failure: Callable[[TransportError], None] | None = None,
    ) -> None:
        self.peer = peer
        self.bytes_sent = self.bytes_received = self.messages_sent = self.messages_received = self.rounds = 0
        self._stream = TlsStream(sock)
        self._timeout, self._idle = timeout_seconds, idle_seconds
        self._max_frame = max_frame
        self._queue_bytes = max_frame if queue_bytes is None else queue_bytes
        self._on_failure = on_failure
        self._sending = threading.Lock()  # one frame at a time
        self._sent_frames = 0  # of any kind: the next sequence number
        self._mid_frame = False  # a frame went out in part: nothing may follow it
        self._sent_since_receive = False
        self._changed = threading.Condition()  # guards what follows
        self._queue: deque[_Frame] = deque()
        self._queued_bytes = 0
        self._expected: Expected | None = None
        self._error: TransportError | None = None
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read_all, name=f"frames from {peer}", daemon=True)
        self._pulse = threading.Thread(target=self._beat, name=f"heartbeat to {peer}", daemon=True)
        self._reader.start()
        self._pulse.start()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, kind: int, *buffers: bytes | bytearray | memoryview) -> None:
        """Send one frame whose body is the buffers (C-contiguous, not copied unless small) one after the other.

        Returns when the operating system has taken all of it. Raises PeerLostError, PeerStalledError,
        PeerRefusedError, and FrameError when the peer sent a bad frame or this one is larger than `max_frame`.
        """
        if not FIRST_KIND <= kind <= 0xFFFF:
            raise ValueError(f"a frame's kind is between {FIRST_KIND} and 65535, not {kind}")
        views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
        length = sum(view.nbytes for view in views)
        if length > self._max_frame:
            raise FrameError(f"a frame of {length} bytes to {self.peer} exceeds {self._max_frame}; send it in parts")
        with self._sending:
            self._raise_failure()
            try:
                if self._mid_frame:
                    raise BrokenPipeError("a heartbeat was cut off")
                self._mid_frame = True
                self._write(kind, views, length)
            except TimeoutError:
                self._fail(stalled(self.peer, "take what we send", self._timeout))
            except OSError as error:
                # The reader has the better reason: what the peer sent before it went.
                self._reader.join(CLOSE_SECONDS)
                self._fail(PeerLostError(f"{self.peer} went away while we sent to it ({error}); see its own log"))
            except StoppedError:
                pass  # whoever stopped us said why
            except BaseException:
                self._fail(TransportError(f"a frame to {self.peer} was interrupted; start the run again"))
                raise
            if self._mid_frame:
                self._raise_failure()
            self.messages_sent += 1
            self.bytes_sent += HEADER.size + length
            self._sent_since_receive = True

    def receive(
        self, kind: int, size: int | None = None, max_size: int | None = None, *, within: float | None = None
    ) -> bytearray:
        """Wait for the next frame, which must be of this kind and, where given, exactly or at most so large.

        within: seconds, where the connection's `idle_seconds` are not what may be waited.

        Frames that came before a failure are still handed out. Raises FrameError, PeerLostError, PeerStalledError,
        and PeerRefusedError with the peer's own words; all name the peer.
        """
        return self._receive(Expected((kind,), size, max_size), self._idle if within is None else within).body

    def receive_any(self, kinds: tuple[int, ...], max_size: int | None = None) -> tuple[int, bytearray]:
        """Like `receive`, for a frame of one of these kinds; returns its kind too."""
        frame = self._receive(Expected(kinds, None, max_size), self._idle)
        return frame.kind, frame.body

    def check(self) -> None:
        """Raise what has become of the peer, a proper end included; nothing while it is there."""
        self._raise_failure()

    def fail(self, message: str) -> None:
        """Tell the peer why we stop (no secret in it), as well as it goes, and close."""
        text = message.encode(errors="replace")[:MAX_ERROR_BYTES]
        self._finish(ERROR, text)

    def close(self) -> None:
        """Tell the peer that this is a proper end, and close. Safe to call again, and after a failure."""
        self._finish(CLOSE, b"")

    def _receive(self, expected: Expected, within: float) -> _Frame:
        deadline = time.monotonic() + within
        with self._changed:
            if self._sent_since_receive:
                self._sent_since_receive = False
                self.rounds += 1
            self._expected = expected
            try:
                while not self._queue:
                    self._raise_failure()
                    if not self._changed.wait(min(deadline - time.monotonic(), threading.TIMEOUT_MAX)):
                        self._fail(
                            PeerStalledError(f"{self.peer} is there, but did not go on for {within:g} s; see its log")
                        )
            finally:
                self._expected = None
            frame = self._queue.popleft()
            self._queued_bytes -= len(frame.body) + FRAME_OVERHEAD
            self._changed.notify_all()  # the reader may have waited for room
        try:
            expected.check(self.peer, frame.kind, len(frame.body))
        except FrameError as error:
            self._fail(error)
            raise
        self.messages_received += 1
        self.bytes_received += HEADER.size + len(frame.body)
        return frame

    def _write(self, kind: int, views: list[memoryview], length: int) -> None:
        header = HEADER.pack(VERSION, kind, self._sent_frames, length)
        self._sent_frames += 1
        if length <= RECORD - HEADER.size:
            self._stream.write(memoryview(b"".join([header, *views])), self._timeout)
        else:
            for piece in (memoryview(header), *views):
                self._stream.write(piece, self._timeout)
        self._mid_frame = False

    def _beat(self) -> None:
        # Once a second at least, so that a peer with a shorter timeout than ours is content too.
        while not self._closing.wait(min(self._timeout / 4, 1.0)):
            # A frame on its way is a sign of life itself; and a heartbeat must never wait while it holds the lock.
            if self._error is None and self._sending.acquire(blocking=False):
                try:
                    if not self._mid_frame and self._stream.writable():
                        self._mid_frame = True
                        self._write(HEARTBEAT, [], 0)
                except (OSError, StoppedError):
                    pass  # the reader notices as well, and says why
                finally:
                    self._sending.release()

    def _read_all(self) -> None:
        header = bytearray(HEADER.size)
        sequence = 0
        try:
            while True:
                self._stream.read(memoryview(header), self._timeout)
                self._read_frame(header, sequence)
                sequence += 1
        except StoppedError:
            return
        except Exception as error:  # noqa: BLE001 (whatever it is, nobody may wait for this thread in vain)
            failure = unreadable(error, self.peer, self._timeout)
        self._fail(failure)
        if isinstance(failure, (PeerLostError, PeerRefusedError)):
            self._stream.end()  # the peer may wait for our end
        if self._on_failure is not None and not isinstance(failure, _EndedError):
            self._on_failure(failure)

    def _read_frame(self, header: bytearray, sequence: int) -> None:
        kind, length = parse_header(header, self.peer, sequence, self._max_frame)
        if kind == HEARTBEAT:
            return
        if kind == CLOSE:
            raise _EndedError(f"{self.peer} closed the connection before we were done; see its own log")
        if kind == ERROR:
            text = bytearray(length)
            self._stream.read(memoryview(text), self._timeout)
            raise PeerRefusedError(f"{self.peer}: {printable(text)}")
        self._await_room(kind, length)
        body = bytearray(length)
        self._stream.read(memoryview(body), self._timeout)
        with self._changed:
            self._queue.append(_Frame(kind, body))
            self._changed.notify_all()

    def _await_room(self, kind: int, length: int) -> None:
        """Take `length` bytes of the queue's limit; a frame that nobody wants is refused before memory is taken."""
        need = length + FRAME_OVERHEAD
        with self._changed:
            while self._queued_bytes and self._queued_bytes + need > self._queue_bytes:
                if self._error is not None:
                    raise StoppedError
                self._changed.wait()
                self._stream.heard = time.monotonic()  # we did not listen: that is not the peer's silence
            if self._expected is not None and not self._queue:
                self._expected.check(self.peer, kind, length)
            self._queued_bytes += need

    def _fail(self, error: TransportError) -> None:
        """Record the first failure and wake everyone; the socket stays open, so that `fail` can say why."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._stream.stop()
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        error = self._error
        if error is not None:
            raise type(error)(*error.args)  # a fresh one: it may be raised in several threads

    def _finish(self, kind: int, body: bytes) -> None:
        with self._changed:
            if self._closing.is_set():
                return
            self._closing.set()
        self._fail(TransportError(f"the connection to {self.peer} is closed on our side"))
        for thread in (self._reader, self._pulse):
            if thread is not threading.current_thread():
                thread.join(CLOSE_SECONDS)
        idle = self._sending.acquire(timeout=CLOSE_SECONDS)  # a sender that was stopped leaves at once
        last = HEADER.pack(VERSION, kind, self._sent_frames, len(body)) + body
        self._stream.finish(last if idle and not self._mid_frame else b"", CLOSE_SECONDS)
        if idle:
            self._sending.release()


class _EndedError(PeerLostError):
    """The peer closed properly: an end that nobody needs to be alarmed about until more is wanted from it."""
