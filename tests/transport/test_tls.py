"""Who gets in, who does not, and that the port keeps serving meanwhile."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secure_fair.errors import PeerLostError, PeerRefusedError, TransportError
from secure_fair.transport import accept, certs, tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from tests.transport.channels import PATIENCE, Pki, background


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def port(pki: Pki) -> Iterator[Acceptor]:
    with pki.acceptor() as acceptor:
        yield acceptor


def dial(acceptor: Acceptor) -> socket.socket:
    return socket.create_connection(tls.parse_address(acceptor.address), timeout=PATIENCE)


def serves_after(pki: Pki, port: Acceptor, bad: Callable[[], None]) -> None:
    """A bad client, then the developer, on one call of accept."""
    accepted = background(port.accept, pki.pin_developer, PATIENCE)
    bad()
    with pki.connect(port.address) as mine:
        peer, theirs = accepted.result(PATIENCE)
        with theirs:
            assert peer == "developer"
            assert mine.version() == theirs.version() == "TLSv1.3"


def test_both_sides_are_who_they_are_pinned_to_be(pki: Pki, port: Acceptor) -> None:
    accepted = background(port.accept, {"dealer": "sha256:" + "0" * 64, **pki.pin_developer}, PATIENCE)
    with pki.connect(port.address) as mine:
        peer, theirs = accepted.result(PATIENCE)
        with theirs:
            assert peer == "developer"
            for sock in (mine, theirs):
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_client_of_another_authority(
    pki: Pki, strangers: Pki, port: Acceptor, caplog: pytest.LogCaptureFixture
) -> None:
    impostor = tls.Identity(strangers.developer.certificate, strangers.developer.key, pki.auditor.ca)

    def bad() -> None:
        with pytest.raises(PeerRefusedError, match="refused our certificate"):
            pki.connect(port.address, impostor)

    with caplog.at_level(logging.WARNING):
        serves_after(pki, port, bad)
    assert "refused a client from 127.0.0.1" in caplog.text


def test_a_server_of_another_authority_is_refused_by_the_client(pki: Pki, strangers: Pki) -> None:
    with Acceptor(tls.listen("127.0.0.1:0"), tls.server_context(strangers.auditor)) as port:
        accepted = background(port.accept, strangers.pin_developer, 1.0)
        with pytest.raises(PeerRefusedError, match=r"auditor at 127\.0\.0\.1 port \d+: its certificate is not valid"):
            pki.connect(port.address)
        with pytest.raises(PeerLostError):
            accepted.result(PATIENCE)


def test_an_expired_certificate(pki: Pki, port: Acceptor, caplog: pytest.LogCaptureFixture) -> None:
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=30)
    expired = pki.party("expired", begin=begin, days=29)

    def bad() -> None:
        with pytest.raises(PeerRefusedError, match="EXPIRED"):
            pki.connect(port.address, expired)

    with caplog.at_level(logging.WARNING):
        serves_after(pki, port, bad)
    assert "certificate has expired" in caplog.text


def test_a_certificate_of_the_authority_that_is_not_pinned(
    pki: Pki, port: Acceptor, caplog: pytest.LogCaptureFixture
) -> None:
    other = pki.party("dealer")

    def bad() -> None:
        with pytest.raises(PeerRefusedError, match="does not expect our certificate"):
            pki.connect(port.address, other)

    with caplog.at_level(logging.WARNING):
        serves_after(pki, port, bad)
    assert "not pinned" in caplog.text


def test_a_server_that_is_not_the_pinned_one(pki: Pki, port: Acceptor) -> None:
    accepted = background(port.accept, pki.pin_developer, PATIENCE)
    wrong = next(iter(pki.pin_developer.values()))
    with pytest.raises(PeerRefusedError, match="another certificate than the one pinned"):
        tls.connect(port.address, tls.client_context(pki.developer), "auditor", wrong, PATIENCE)
    accepted.result(PATIENCE)[1].close()


def test_a_client_without_a_certificate(pki: Pki, port: Acceptor) -> None:
    context = tls.client_context(pki.developer)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.load_verify_locations(pki.developer.ca)
    assert context.verify_mode == bare.verify_mode == ssl.CERT_REQUIRED

    def bad() -> None:
        with bare.wrap_socket(dial(port)) as sock, pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            sock.recv(1)

    serves_after(pki, port, bad)


def test_tls_1_2_is_not_spoken(pki: Pki, port: Acceptor, caplog: pytest.LogCaptureFixture) -> None:
    old = tls.client_context(pki.developer)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2

    def bad() -> None:
        with dial(port) as raw, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            old.wrap_socket(raw)

    with caplog.at_level(logging.WARNING):
        serves_after(pki, port, bad)
    assert "UNSUPPORTED_PROTOCOL" in caplog.text


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 500, b""],
    ids=["http", "zeros", "oversized record", "nothing"],
)
def test_plain_tcp_and_garbage(pki: Pki, port: Acceptor, said: bytes) -> None:
    def bad() -> None:
        with dial(port) as raw, contextlib.suppress(OSError):  # the port may close on it at any time
            raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1000):  # an alert at most, then the end
                pass

    serves_after(pki, port, bad)


def test_silent_clients_keep_nobody_out(
    pki: Pki, port: Acceptor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "MAX_PENDING", 3)
    silent = [dial(port) for _ in range(8)]
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        serves_after(pki, port, lambda: None)
    assert time.monotonic() - started < 4  # they did not have to time out first
    assert caplog.text.count("too many unfinished handshakes") >= 5
    for sock in silent:
        sock.close()


def test_a_silent_client_is_dropped_after_the_handshake_deadline(
    pki: Pki, port: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "HANDSHAKE_SECONDS", 0.2)
    with dial(port) as silent:
        with pytest.raises(PeerLostError, match=rf"waited 0\.6 s at {re.escape(port.address)} for developer"):
            port.accept(pki.pin_developer, 0.6)
        assert silent.recv(1) == b""


def test_a_handshake_survives_between_two_calls_of_accept(pki: Pki, port: Acceptor) -> None:
    connected = background(pki.connect, port.address)
    while True:
        try:
            _, theirs = port.accept(pki.pin_developer, 0.002)
            break
        except PeerLostError:
            pass
    theirs.close()
    connected.result(PATIENCE).close()


@pytest.fixture
def unanswered() -> Iterator[str]:
    """An address where nobody listens yet: bound, so that nobody else is given it, not even a client of it as its own
    port, and free for who asks for it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield tls.address_of(holder)


def test_any_start_order(pki: Pki, unanswered: str) -> None:
    connected = background(pki.connect, unanswered)
    time.sleep(0.4)  # the client has been refused by then, and tries again
    with pki.acceptor(unanswered) as port:
        port.accept(pki.pin_developer, PATIENCE)[1].close()
        connected.result(PATIENCE).close()


def test_a_peer_that_never_starts_is_named_with_host_port_and_mend(pki: Pki, unanswered: str) -> None:
    host, port = tls.parse_address(unanswered)
    started = time.monotonic()
    with pytest.raises(PeerLostError, match=rf"auditor at {host} port {port} could not be reached .*refused.*start it"):
        pki.connect(f"{host}:{port}", timeout=0.5)
    assert time.monotonic() - started < 5  # and not its own timeout


def test_a_server_that_is_no_tls_and_one_that_says_nothing(pki: Pki) -> None:
    with tls.listen("127.0.0.1:0") as plain:
        answered = background(lambda: plain.accept()[0])
        connected = background(pki.connect, tls.address_of(plain))
        with answered.result(PATIENCE) as server:
            server.sendall(b"220 mail.example ESMTP\r\n")
            with pytest.raises(PeerRefusedError, match=r"no TLS 1\.3 party answers there"):
                connected.result(PATIENCE)
        with pytest.raises(PeerLostError, match="could not be reached"):
            pki.connect(tls.address_of(plain), timeout=0.5)  # connects, but nobody shakes hands


def test_an_inherited_listening_socket(pki: Pki) -> None:
    parent = socket.create_server(("127.0.0.1", 0))
    with pki.acceptor(parent.detach()) as port:
        serves_after(pki, port, lambda: None)
    with socket.socket() as idle, pytest.raises(TransportError, match="no listening socket"):
        tls.listen(idle.fileno())
    with pytest.raises(TransportError, match="file descriptor 9999"):
        tls.listen(9999)


@pytest.mark.parametrize("wrong", ["", "sha256:", "sha256:" + "g" * 64, "sha256:" + "A" * 64, "a" * 64])
def test_fingerprints_that_are_none(pki: Pki, port: Acceptor, wrong: str) -> None:
    with pytest.raises(TransportError, match="fingerprint of auditor"):
        tls.connect(port.address, tls.client_context(pki.developer), "auditor", wrong, 1)
    with pytest.raises(TransportError, match="fingerprint of developer"):
        port.accept({"developer": wrong}, 1)


def test_with_no_fingerprints_everyone_is_refused(pki: Pki, port: Acceptor) -> None:
    accepted = background(port.accept, {}, 0.8)
    with pytest.raises(PeerRefusedError, match="does not expect our certificate now"):
        pki.connect(port.address)
    with pytest.raises(PeerLostError, match="for nobody"):
        accepted.result(PATIENCE)


def test_files_that_cannot_be_used(pki: Pki, tmp_path: Path) -> None:
    mixed = tls.Identity(pki.developer.certificate, pki.auditor.key, pki.auditor.ca)
    with pytest.raises(TransportError, match="KEY_VALUES_MISMATCH"):
        tls.client_context(mixed)
    with pytest.raises(TransportError, match=r"none\.crt: no such file"):
        tls.client_context(tls.Identity(tmp_path / "none.crt", pki.developer.key, pki.developer.ca))


def test_connections_work_over_ipv6(pki: Pki) -> None:
    try:
        listener = tls.listen("[::1]:0")
    except TransportError:
        pytest.skip("no IPv6 loopback on this machine")
    with Acceptor(listener, tls.server_context(pki.auditor)) as port:
        assert port.address.startswith("[::1]:")
        accepted = background(port.accept, pki.pin_developer, PATIENCE)
        with (
            Connection(pki.connect(port.address), "auditor") as mine,
            Connection(accepted.result(PATIENCE)[1], "developer") as theirs,
        ):
            mine.send(16, b"hello")
            assert theirs.receive(16) == b"hello"


def test_certificates_of_a_public_fingerprint_are_compared_in_full(pki: Pki) -> None:
    mine, theirs = pki.sockets()
    with mine, theirs:
        right = certs.fingerprint(pki.auditor.certificate)
        assert tls.matches(mine, right)
        assert not tls.matches(mine, right[:-1] + ("0" if right[-1] != "0" else "1"))
