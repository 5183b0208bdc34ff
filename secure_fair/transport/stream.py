"""A TLS socket read by one thread and written by others, without polling and without extra copies.

An `ssl` object must not be used by two threads at once, so the socket is non-blocking: every read and write is one
short call under a lock, and all waiting happens outside of the lock, in `poll`.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import threading
import time

PIECE = 1 << 16  # bytes a write: the reading thread gets its turn between two


class StoppedError(Exception):
    """The stream was stopped by its owner, possibly in the middle of a frame."""


class TlsStream:
    """Bytes over one TLS socket, which it owns. `silence` is in seconds.

    Writing a memoryview sends from it; reading fills the caller's own buffer.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._use = threading.Lock()  # one use of the ssl object at a time
        self._stop_read, self._stop_write = os.pipe()
        self._stopped = False
        self._closed = False
        self._readable = select.poll()  # used by the reading thread only
        self._readable.register(sock, select.POLLIN)
        self._readable.register(self._stop_read, select.POLLIN)
        self.heard = self.moved = time.monotonic()  # when the last byte came, when the last byte left

    def read(self, view: memoryview, silence: float) -> None:
        """Fill `view`. Raises EOFError, OSError, StoppedError, and TimeoutError after `silence` without a byte."""
        filled = 0
        with self._use:
            waiting = not self._sock.pending()
        while filled < len(view):
            if waiting:
                self._readable.poll(math.ceil(max(0.0, self.heard + silence - time.monotonic()) * 1000))
            if self._stopped:
                raise StoppedError
            try:
                with self._use:
                    got = self._sock.recv_into(view[filled:] if filled else view)
            except ssl.SSLWantReadError:
                # Checked after an attempt to read, so that a process that was itself stopped blames nobody.
                if time.monotonic() >= self.heard + silence:
                    raise TimeoutError from None
                waiting = True
                continue
            except ssl.SSLWantWriteError:  # a key update that OpenSSL answers from within a read
                self._wait_writable(silence)
                continue
            if got == 0:
                raise EOFError
            waiting = False
            filled += got
            self.heard = time.monotonic()

    def write(self, view: memoryview, silence: float) -> None:
        """Send all of `view`. Raises OSError, StoppedError, and TimeoutError.

        The deadline passes when for `silence` seconds no byte went out and none came in: a peer that is alive but
        slow to read still sends heartbeats.
        """
        sent = 0
        while sent < len(view):
            if self._stopped:
                raise StoppedError
            try:
                with self._use:  # OpenSSL takes all of a piece, or wants the same piece again
                    sent += self._sock.send(view[sent : sent + PIECE])
                self.moved = time.monotonic()
            except ssl.SSLWantWriteError:
                self._wait_writable(silence)
            except ssl.SSLWantReadError:  # cannot happen after a TLS 1.3 handshake; the reading thread would serve it
                self._wait_writable(silence)

    def writable(self) -> bool:
        """Whether a small write would go out at once."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        return bool(poll.poll(0))

    def stop(self) -> None:
        """Wake and end every wait; the socket itself stays open for `finish`."""
        if not self._stopped:
            self._stopped = True
            os.write(self._stop_write, b"\0")  # never read back: every later poll returns at once

    def end(self) -> None:
        """Tell the peer's TCP that nothing follows."""
        with contextlib.suppress(OSError):
            # The base class: SSLSocket.shutdown would drop the TLS layer, and a late send would go out in the clear.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def finish(self, last: bytes, seconds: float) -> None:
        """After `stop`: send `last`, end, and discard what still comes until the peer ends too; then close.

        Closing with unread bytes would reset the connection and could destroy `last` on its way. Waits `seconds` at
        most. No other thread may use the stream any more.
        """
        deadline = time.monotonic() + seconds
        try:
            self._finish(memoryview(last), deadline)
        except OSError:
            pass  # the peer is gone: nothing left to say
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket at once."""
        with self._use:
            if not self._closed:
                self._closed = True
                self._sock.close()
                os.close(self._stop_read)
                os.close(self._stop_write)

    def _finish(self, last: memoryview, deadline: float) -> None:
        scratch = bytearray(65536)
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT if last else select.POLLIN)
        if not last:
            self.end()
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                if last:
                    last = last[self._sock.send(last) :]
                    if not last:
                        self.end()
                        poll.modify(self._sock, select.POLLIN)
                elif not self._sock.recv_into(scratch):
                    return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                poll.poll(math.ceil(remaining * 1000))

    def _wait_writable(self, silence: float) -> None:
        remaining = max(self.heard, self.moved) + silence - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        poll.register(self._stop_read, select.POLLIN)
        poll.poll(math.ceil(remaining * 1000))
