"""A party's channels: what its peers and its own log are told, and that a failure interrupts whatever it is doing."""

from __future__ import annotations

import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress

import pytest

from parties.links import ENDED, Links, opened
from parties.service import Guest
from secure_fair.errors import (
    InterruptedRunError,
    PeerLostError,
    PeerRefusedError,
    ProtocolError,
    RefusedError,
    RunError,
    SecureFairError,
    SettingsError,
)
from secure_fair.sections import NetworkSettings
from secure_fair.transport.frames import Connection
from tests.parties.commands import PATIENCE
from tests.parties.world import Deployment
from tests.transport.channels import background

KIND = 16


def network_of(deployment: Deployment) -> NetworkSettings:
    """The auditor's."""
    table = {**deployment.network("auditor"), "fingerprints": deployment.fingerprints}
    return NetworkSettings.model_validate({key: value for key, value in table.items() if "." not in key})


@contextmanager
def auditor(deployment: Deployment) -> Iterator[tuple[Links, Connection]]:
    """An auditor's links, and the developer's end of its one channel."""
    connecting = background(deployment.connect, "auditor")
    try:
        with opened(network_of(deployment)) as links, links.acceptor() as acceptor:
            peer, sock = acceptor.accept({"developer": links.pins("developer")}, PATIENCE)
            links.take(sock, peer)
            yield links, connecting.result(PATIENCE)
    finally:
        connecting.result(PATIENCE).close()


@pytest.mark.parametrize(
    ("error", "ours", "told"),
    [
        (ValueError("4711"), RunError, "failed with ValueError"),
        (SettingsError("4711 is wrong"), SettingsError, "failed with SettingsError"),
        (OSError(28, "4711"), OSError, "failed with OSError"),
        (ProtocolError("step 7 follows"), ProtocolError, "auditor: step 7 follows"),
        (KeyboardInterrupt(), KeyboardInterrupt, "stopped by its user"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_an_error_tells(
    deployment: Deployment, error: BaseException, ours: type[BaseException], told: str
) -> None:
    """A peer hears reasons that are public. Our own log hears what somebody wrote for it, else the type only."""
    waiting: list[Future[bytearray]] = []

    def fail() -> None:
        with auditor(deployment) as (_, peer):
            waiting.append(background(peer.receive, KIND))
            raise error

    with pytest.raises(ours) as raised:
        fail()
    with pytest.raises(PeerRefusedError, match=told) as heard:
        waiting[0].result(PATIENCE)
    assert "4711" not in str(heard.value)
    assert ("4711" in str(raised.value)) == isinstance(error, (SettingsError, OSError))
    if ours is RunError:
        assert "unexpected ValueError" in str(raised.value)


@contextmanager
def between(deployment: Deployment) -> Iterator[tuple[Links, Connection, Connection]]:
    """An auditor's links, and the other ends of its channels to a developer and to a dealer."""
    ends: list[Connection] = []
    try:
        with opened(network_of(deployment)) as links, links.acceptor() as acceptor:
            for peer in ("developer", "dealer"):
                connecting = background(deployment.connect, "auditor")
                links.take(acceptor.accept({"developer": links.pins("developer")}, PATIENCE)[1], peer)
                ends.append(connecting.result(PATIENCE))
            yield links, ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


def test_a_dealer_is_told_no_reason(deployment: Deployment) -> None:
    waiting: list[Future[bytearray]] = []

    def refuse() -> None:
        with between(deployment) as (links, developer, dealer):
            waiting.extend(background(peer.receive, KIND) for peer in (developer, dealer))
            links.where = "step 3 of 7"
            raise RefusedError("4711 of 5000 ids are unknown")

    with pytest.raises(RefusedError, match="4711"):
        refuse()
    with pytest.raises(PeerRefusedError, match=r"4711 of 5000 ids are unknown \(step 3 of 7\)"):
        waiting[0].result(PATIENCE)
    with pytest.raises(PeerRefusedError, match=rf"^auditor: {ENDED} \(step 3 of 7\)$"):
        waiting[1].result(PATIENCE)


def test_who_ended_a_run_is_believed_and_not_a_dealer_that_was_faster(deployment: Deployment) -> None:
    def told() -> None:
        with between(deployment) as (_, developer, dealer):
            threading.Timer(0.5, developer.fail, ("the table is damaged",)).start()
            dealer.fail(f"developer: {ENDED}")
            time.sleep(PATIENCE)

    with pytest.raises(PeerRefusedError, match="developer: the table is damaged"):
        told()


def test_who_will_not_wait_for_a_reason_leaves_no_peer_untold(deployment: Deployment) -> None:
    """SIGTERM in the moment that a party waits for what its other channel knows."""
    waiting: list[Future[bytearray]] = []

    def told() -> None:
        with between(deployment) as (_, developer, dealer):
            waiting.append(background(developer.receive, KIND))
            threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGTERM)).start()
            dealer.fail(f"developer: {ENDED}")
            time.sleep(PATIENCE)

    with pytest.raises(InterruptedRunError, match="SIGTERM"):
        told()
    with pytest.raises(PeerRefusedError, match=ENDED):
        waiting[0].result(PATIENCE)


@pytest.mark.parametrize("how", ["peer dies", "peer refuses", "SIGTERM"])
def test_a_failure_interrupts_a_long_computation(deployment: Deployment, how: str) -> None:
    expected: dict[str, type[SecureFairError]] = {
        "peer dies": PeerLostError,
        "peer refuses": PeerRefusedError,
        "SIGTERM": InterruptedRunError,
    }
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    began = time.monotonic()

    def compute() -> None:
        with auditor(deployment) as (_, peer):
            if how == "SIGTERM":
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            elif how == "peer dies":
                threading.Timer(0.1, peer._stream.end).start()  # without a word, as if killed
            else:
                threading.Timer(0.1, peer.fail, ("no",)).start()
            time.sleep(PATIENCE)

    with pytest.raises(expected[how]):
        compute()
    assert time.monotonic() - began < 5
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)] == before


def test_a_proper_end_interrupts_nobody(deployment: Deployment) -> None:
    with auditor(deployment) as (_, peer):
        peer.close()
        time.sleep(0.3)


def test_a_guest_is_known_even_if_the_connection_breaks_at_once(deployment: Deployment) -> None:
    """Its certificate must not be asked for after a reading thread has seen the end, however soon that comes."""

    class Slow(Links):
        """Hands a channel out when its reader has met the end."""

        def __init__(self, links: Links) -> None:
            self._links = links

        def take(self, sock: ssl.SSLSocket, peer: str) -> Connection:
            connection = self._links.take(sock, peer)
            with pytest.raises(PeerLostError):
                connection.receive(KIND)
            return connection

    known: list[Guest] = []
    connecting = background(deployment.connect, "auditor")

    def serve() -> None:
        with opened(network_of(deployment)) as links, links.acceptor() as acceptor, links.undisturbed():
            peer, sock = acceptor.accept({"developer": links.pins("developer")}, PATIENCE)
            connecting.result(PATIENCE)._stream.end()  # without a word, as if killed
            known.append(Guest.over(sock, peer, Slow(links)))

    with suppress(PeerLostError):  # the reading thread may tell it before the block ends, or after
        serve()
    assert known[0].fingerprint == deployment.fingerprints["developer"]
    connecting.result(PATIENCE).close()


def test_a_failure_interrupts_again_if_the_main_thread_slept_through_the_signal(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = signal.pthread_kill, []

    def kill(thread: int, number: int) -> None:
        sent.append(number)
        if len(sent) > 1:  # the first is lost
            real(thread, number)

    def serve() -> None:
        with auditor(deployment) as (_, peer):
            monkeypatch.setattr(signal, "pthread_kill", kill)
            peer._stream.end()
            time.sleep(PATIENCE)

    began = time.monotonic()
    with pytest.raises(PeerLostError):
        serve()
    assert time.monotonic() - began < 5
    assert len(sent) == 2


def test_an_interruption_that_other_code_turns_into_an_error_of_its_own_is_told_as_what_it_was(
    deployment: Deployment,
) -> None:
    def compute() -> None:
        with auditor(deployment) as (_, peer):
            threading.Timer(0.1, peer._stream.end).start()
            try:
                time.sleep(PATIENCE)
            except PeerLostError:
                raise RuntimeError("as a library might") from None

    with pytest.raises(PeerLostError, match="went away without closing"):
        compute()
