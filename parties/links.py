"""A party's channels to the others: opened by its settings, watched together, closed together."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from secure_fair.errors import (
    InterruptedRunError,
    ProtocolError,
    RefusedError,
    RunError,
    SecureFairError,
    SettingsError,
    TransportError,
)
from secure_fair.sections import NetworkSettings
from secure_fair.transport import tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection

GRACE_SECONDS = 5.0
ENDING_SECONDS = 2.0
AGAIN_SECONDS = 0.2  # after which a failure interrupts once more, if the main thread slept through the first time
# What a dealer is told, which has no business with ids, budgets and digests.
ENDED = "ended the run; its own log says why"
PARENT_PIPE = "SECURE_FAIR_PARENT_PIPE"  # descriptor whose end tells that the launcher is gone


class Links:
    """Opens channels; when any of them fails, the main thread is interrupted wherever it is.

    Without that a developer in a minute-long forward pass would notice a dead auditor a minute later.
    """

    def __init__(self, network: NetworkSettings) -> None:
        self._network = network
        self._identity = _identity(network)
        self._open: list[Connection] = []
        self._failure: TransportError | None = None
        self._closing = self._terminated = self._raised = False
        self._over = threading.Event()
        self._held = 0  # blocks that must not be interrupted, one inside of the other
        self.where = ""  # what the run is at, for the words of an error: "step 12 of 500"

    def connect(self, peer: str) -> Connection:
        """Connect to a listening party; it may start later than we do."""
        address = self._network.peers.get(peer)  # type: ignore[call-overload]
        if address is None:
            raise SettingsError(f"network.peers has no address of the {peer}; add one, for instance host:7400")
        context = tls.client_context(self._identity)
        # An auditor that is busy says so, unless it is just ending a run; a dealer follows it from run to run.
        limit = self._network.start_timeout_seconds
        busy = limit if peer == "dealer" else ENDING_SECONDS

        def attempt(connect: Callable[[], ssl.SSLSocket]) -> Connection:
            with self.undisturbed():
                return self.take(connect(), peer)

        return tls.connect_by(attempt, address, context, peer, self.pins(peer), limit, busy=busy)

    def acceptor(self) -> Acceptor:
        """Open our port."""
        if self._network.listen is None:
            raise SettingsError("network.listen is missing; write it as host:port, for instance 0.0.0.0:7400")
        kind, _, descriptor = self._network.listen.partition(":")
        listener = tls.listen(int(descriptor) if kind == "fd" else self._network.listen)
        return Acceptor(listener, tls.server_context(self._identity))

    def fail(self, message: str) -> None:
        """Tell every peer why we stop, a dealer only that and where, and close."""
        self._end()
        ended = f"{ENDED} ({self.where})" if self.where else ENDED
        for connection in self._open:
            connection.fail(ended if connection.peer == "dealer" else message)

    def close(self) -> None:
        """A proper end."""
        self._end()
        for connection in self._open:
            connection.close()

    def take(self, sock: ssl.SSLSocket, peer: str) -> Connection:
        """The channel over a socket that has been accepted."""
        network = self._network
        with self.undisturbed():  # else nobody would own the channel, and close it
            connection = Connection(
                sock,
                peer,
                timeout_seconds=network.timeout_seconds,
                idle_seconds=network.idle_timeout_seconds,
                on_failure=self._failed,
            )
            self._open.append(connection)
        return connection

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What would interrupt the block is raised at its end: for what must not be left half-done."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.interrupt()

    def _failed(self, error: TransportError) -> None:
        if self._failure is None and not self._closing:
            self._failure = error
            # Once is not enough: Python does not notice a signal that comes just before it begins to wait for a lock.
            while not (self._closing or self._raised):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                self._over.wait(AGAIN_SECONDS)

    def _end(self) -> None:
        self._closing = True
        self._over.set()

    def terminate(self) -> None:
        """SIGTERM has come."""
        self._terminated = True
        self.interrupt()

    def interrupt(self) -> None:
        """Runs in the main thread, for the signals."""
        if self._held:
            return
        if self._terminated:
            self._terminated = False
            raise InterruptedRunError("stopped by SIGTERM")
        if self._failure is not None and not self._closing:
            self._raised = True
            raise type(self._failure)(*self._failure.args)  # a fresh one: tracebacks keep what they mention alive

    def noticed(self) -> TransportError | None:
        """The failure that has interrupted the main thread, if one has."""
        return type(self._failure)(*self._failure.args) if self._raised and self._failure is not None else None

    def cause(self, error: SecureFairError) -> SecureFairError:
        """What another channel knows, where a peer says no more than that it has ended the run; a moment for it."""
        self._end()  # no further interruption
        deadline = time.monotonic() + ENDING_SECONDS
        try:
            while ENDED in str(error) and time.monotonic() < deadline:
                for connection in self._open:
                    if not str(error).startswith(f"{connection.peer}: "):
                        try:
                            connection.check()
                        except TransportError as own:
                            return own
                time.sleep(0.05)
        except (InterruptedRunError, KeyboardInterrupt):  # that ends the moment; peers are told first
            self.fail(str(error))
            raise
        return error

    def locate(self, error: SecureFairError) -> None:
        """Let the error say where the run was."""
        if self.where and self.where not in str(error):  # a peer at the same place has said it
            error.args = (f"{error} ({self.where})",)

    def pins(self, peer: str) -> tuple[str, ...]:
        """The fingerprints that a party may have. Raises SettingsError when there is none."""
        pins = self._network.fingerprints.get(peer)  # type: ignore[call-overload]
        if not pins:
            raise SettingsError(f"network.fingerprints has none of the {peer}; `secure-fair certs init` prints them")
        return (pins,) if isinstance(pins, str) else tuple(pins)


@contextmanager
def opened(network: NetworkSettings) -> Iterator[Links]:
    """Links whose channels end with the block: properly, or with the error told to every peer.

    To be used from the main thread of a party's process, since it handles the signals SIGUSR1 and SIGTERM.
    """
    links = Links(network)

    def on_failure(_: int, __: FrameType | None) -> None:
        links.interrupt()

    def on_term(_: int, __: FrameType | None) -> None:
        links.terminate()

    before = {
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, on_failure),
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_term),
    }
    try:
        yield links
        links.close()
    except KeyboardInterrupt:
        links.fail("stopped by its user")
        raise
    except (TransportError, ProtocolError, RefusedError, InterruptedRunError) as error:
        cause = links.cause(error)
        links.locate(cause)
        links.fail(str(cause))
        if cause is not error:
            raise cause from None
        raise
    except BaseException as error:
        lost = links.noticed()
        if lost is not None and isinstance(error, Exception):
            # Code of others in which the interruption came may have made an error of its own of it.
            cause = links.cause(lost)
            links.locate(cause)
            links.fail(str(cause))
            raise cause from error
        links.fail(f"failed with {type(error).__name__}; see its own log")  # the text might name a value
        if isinstance(error, Exception) and not isinstance(error, (SecureFairError, OSError)):
            # Nobody has thought about what its text holds, and logs travel.
            raise RunError(f"unexpected {type(error).__name__}; run again with --debug and report it") from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_parent() -> None:
    """End with the launcher, however it ends: a party must not outlive its simulation."""
    descriptor = os.environ.pop(PARENT_PIPE, None)
    if descriptor is None:
        return

    def watch() -> None:
        os.read(int(descriptor), 1)  # returns at the end of the pipe only
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)  # a handler waits for the end of a backward pass, which may take long
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _identity(network: NetworkSettings) -> tls.Identity:
    if network.certificate is None or network.key is None or network.ca is None:
        raise SettingsError(
            "network.certificate, network.key and network.ca are all needed; `secure-fair certs init` makes a trial set"
        )
    return tls.Identity(network.certificate, network.key, network.ca)
