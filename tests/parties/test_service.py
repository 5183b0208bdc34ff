"""Auditor and dealer as services: run after run, one at a time, whoever else comes by; and a stop in order."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from parties.journal import Journal
from parties.links import Links
from parties.service import Guest, serve
from secure_fair import settings
from secure_fair.errors import LedgerBusyError, LedgerError, PeerBusyError, PeerRefusedError, SecureFairError
from secure_fair.mpc.kinds import Kind
from secure_fair.transport import certs, tls
from tests.parties import commands
from tests.parties.commands import PATIENCE
from tests.parties.visits import RELEASES, Services, go_on, short_run
from tests.parties.world import PROMPT, Deployment
from tests.transport.channels import Pki
from tests.transport.test_fuzz import knock


def test_a_second_developer_is_told_to_wait(services: Callable[..., Services]) -> None:
    both = services("colleague")
    with both.visit() as first:
        asked = first.hello("orth", "gradient")
        answer, _ = first.ask(asked)
        began = time.monotonic()
        with pytest.raises(PeerBusyError, match=r"auditor at .* is busy with another run; try again when that has"):
            both.connect("auditor", "colleague")
        with pytest.raises(PeerBusyError):
            both.connect("auditor")
        assert time.monotonic() - began < PROMPT
        go_on(first, asked, answer)
    with both.visit("colleague") as second:
        short_run(second, "gradient")
    both.wait_for(2)
    assert both.count("auditor", "run ended") == 2
    warnings = [line["text"] for line in both.events("auditor") if line["event"] == "warning"]
    assert len(warnings) >= 2
    assert all("it is a developer, and another run is being served" in text for text in warnings)
    connected = [line["developer"] for line in both.events("auditor") if line["event"] == "connected"]
    assert len(set(connected)) == 2


@pytest.mark.parametrize("role", ["auditor", "dealer"])
def test_sigterm_while_nobody_is_served(services: Callable[..., Services], role: str) -> None:
    idle = services()
    commands.until(lambda: idle.count(role, "listening") == 1)
    began = time.monotonic()
    os.kill(idle.process(role).pid, signal.SIGTERM)
    assert idle.commands[role].wait() == 0
    assert time.monotonic() - began < PROMPT
    assert idle.commands[role].errors == []
    assert idle.health(role)["state"] == "stopped"


def test_sigterm_during_a_run(services: Callable[..., Services]) -> None:
    """The developer is told; nothing is released any more; the ledger has what was."""
    busy = services()
    with busy.visit() as auditor:
        answer = auditor.hello("orth", "moment")
        auditor.ask(answer)
        assert not auditor.sent_again()
        auditor.closing.enter_context(busy.connect("dealer"))
        commands.until(lambda: busy.count("dealer", "connected") == 1)
        assert busy.health("auditor")["state"] == "serving"
        os.kill(busy.process("auditor").pid, signal.SIGTERM)
        with pytest.raises(PeerRefusedError, match="auditor: stopped by SIGTERM"):
            auditor.connection.receive(Kind.OPEN)
    assert busy.commands["auditor"].wait() == 0
    assert auditor.debits() == []
    last = [line for line in busy.events("auditor") if line["event"] == "run failed"]
    assert [line["reason"] for line in last] == ["stopped by SIGTERM"]


def test_a_locked_ledger_fails_the_run_and_not_the_service(deployment: Deployment, tmp_path: Path) -> None:
    """Two runs fail for a lock and the next one is served; a ledger that cannot be trusted ends the service."""
    errors = [LedgerBusyError("locked"), LedgerBusyError("full"), LedgerError("restored")]
    rows = deployment.network("dealer").items()
    network = settings.load(None, tuple(f"network.{key}={value}" for key, value in rows)).network

    def session(_links: Links, _come: dict[str, Guest], _journal: Journal) -> None:
        raise errors.pop(0)

    def visit() -> None:
        while errors:
            with contextlib.suppress(SecureFairError), deployment.connect("dealer") as connection:
                connection.receive(Kind.HELLO)

    visitor = threading.Thread(target=visit, daemon=True)
    visitor.start()
    with pytest.raises(LedgerError, match="restored"):
        serve("dealer", network, tmp_path, ("developer",), session, forever=True)
    assert errors == []
    visitor.join(PATIENCE)
    told = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    failed = [line["reason"] for line in told if line["event"] == "run failed"]
    assert failed == ["LedgerBusyError", "LedgerBusyError", "LedgerError"]


@pytest.mark.parametrize("how", ["silent", "not a hello", "gone"])
def test_a_bad_visitor_does_not_keep_the_next_one_out(services: Callable[..., Services], how: str) -> None:
    open_door = services()
    with open_door.connect("auditor") as bad:
        if how == "not a hello":
            bad.send(Kind.HELLO, b"{}")
            with pytest.raises(PeerRefusedError, match="protocol"):
                bad.receive(Kind.HELLO)
        elif how == "silent":  # for longer than the start takes at most
            with pytest.raises(PeerRefusedError, match="developer is there, but did not go on for"):
                bad.receive(Kind.HELLO)
    with open_door.visit() as good:
        short_run(good, "randomized-response")
    commands.until(lambda: open_door.count("auditor", "run ended") == 1)


def test_the_log_has_no_secret(services: Callable[..., Services]) -> None:
    told = services()
    for release in ("randomized-response", "moment", "gradient"):
        with told.visit() as auditor:
            short_run(auditor, release)
    commands.until(lambda: told.count("auditor", "run ended") == len(RELEASES))
    for role in ("auditor", "dealer"):
        text = (told.folder / role / "log.jsonl").read_text()
        assert not re.search(r"r0\d\d|Pale_Skin|identity|BEGIN|p\d+\b.*yes", text)
        assert all({"time", "party", "event"} <= set(line) for line in told.events(role))
        key = told.deployment.identities[role].key.read_text().splitlines()[1]
        assert key not in text
    assert {line["event"] for line in told.events("auditor")} >= {
        "listening",
        "connected",
        "run accepted",
        "moment released",
        "randomized response released",
        "run ended",
        "health",
    }


def test_a_developer_that_goes_away(services: Callable[..., Services]) -> None:
    """Both services say who went away and where the run was, and wait for the next one."""
    going = services()
    with going.visit() as auditor:
        short_run(auditor, "gradient", stop_after=1)
    commands.until(lambda: going.count("auditor", "run failed") == 1 and going.count("dealer", "run failed") == 1)
    for role in ("auditor", "dealer"):
        (failed,) = [line for line in going.events(role) if line["event"] == "run failed"]
        assert "developer" in failed["reason"]
        assert re.search(r"\((step [12] of 6|\d of 6 steps dealt)\)", failed["reason"])


def strangers(services: Services, folder: Path) -> dict[str, Callable[[str], None]]:
    """Who may come by, and what it has to hear; each gets an address."""
    own = services.deployment.identities["developer"]
    other = Pki(folder / "other")
    expired = certs.make_party(own.ca.parent, "expired", begin=dt.datetime.now(dt.UTC) - dt.timedelta(days=30), days=29)
    unpinned = certs.make_party(own.ca.parent, "unpinned")

    def present(identity: tls.Identity) -> Callable[[str], None]:
        def come(address: str) -> None:
            pins = (services.deployment.fingerprints["auditor"], services.deployment.fingerprints["dealer"])
            with pytest.raises(PeerRefusedError):
                tls.connect(address, tls.client_context(identity), "it", pins, PATIENCE)

        return come

    def old(address: str) -> None:
        context = tls.client_context(own)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(tls.parse_address(address), PATIENCE) as raw, pytest.raises(ssl.SSLError):
            context.wrap_socket(raw)

    return {
        "unable to get local issuer|self-signed|unknown": present(
            tls.Identity(other.developer.certificate, other.developer.key, own.ca)
        ),
        "certificate has expired": present(tls.Identity(expired, expired.with_suffix(".key"), own.ca)),
        "its certificate is not pinned": present(tls.Identity(unpinned, unpinned.with_suffix(".key"), own.ca)),
        "UNSUPPORTED_PROTOCOL": old,
        "HTTP_REQUEST|WRONG_VERSION": lambda address: knock(address, b"GET / HTTP/1.1\r\n\r\n"),
        "it is a developer": lambda address: _busy(services, address),
    }


def _busy(services: Services, address: str) -> None:
    context = tls.client_context(services.deployment.identities["developer"])
    pins = (services.deployment.fingerprints["auditor"], services.deployment.fingerprints["dealer"])
    with pytest.raises(PeerBusyError):
        tls.connect(address, context, "it", pins, PATIENCE)


def test_strangers_during_a_run(services: Callable[..., Services], tmp_path: Path) -> None:
    """Each is refused and logged by auditor and dealer alike, and the run goes on to its end."""
    serving = services()
    known = strangers(serving, tmp_path)

    def between(step: int) -> None:
        if step == 2:
            for role in ("auditor", "dealer"):
                for come in known.values():
                    come(serving.deployment.addresses[role])

    with serving.visit() as auditor:
        asked = auditor.hello("orth", "gradient")
        answer, _ = auditor.ask(asked)
        go_on(auditor, asked, answer, between=between)
    serving.wait_for(1)
    for role in ("auditor", "dealer"):
        serving.until(role, "run ended")
        warnings = [line["text"] for line in serving.events(role) if line["event"] == "warning"]
        assert len(warnings) == len(known)
        for reason, text in zip(known, warnings, strict=True):
            assert re.search(reason, text), (reason, text)
        assert serving.count(role, "run failed") == 0
