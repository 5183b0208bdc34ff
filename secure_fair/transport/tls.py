"""Mutual TLS 1.3 between parties that pin each other's certificate.

Both sides present a certificate of the authority that both trust, and both check the other's fingerprint: the
authority alone could otherwise make itself a party. Nothing below TLS 1.3 is spoken.
"""

from __future__ import annotations

import errno
import hmac
import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from secure_fair.errors import PeerBusyError, PeerLostError, PeerRefusedError, TransportError
from secure_fair.transport.certs import fingerprint_of

HANDSHAKE_SECONDS = 5.0
ACCEPTED, REFUSED, BUSY = b"\1", b"\0", b"\2"
FIRST_WAIT, LONGEST_WAIT = 0.05, 0.5  # seconds between attempts to connect
Taken = TypeVar("Taken")
Pins = str | tuple[str, ...]  # a peer's fingerprint, or those of several that may take its part


@dataclass(frozen=True)
class Identity:
    """PEM files of one party: its certificate, its unencrypted key, and the authority that signs its peers."""

    certificate: Path
    key: Path
    ca: Path


def server_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 only; a client must present a certificate of the authority."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.num_tickets = 0  # no resumption: every connection proves its certificate anew
    return context


def client_context(identity: Identity) -> ssl.SSLContext:
    """TLS 1.3 only; the server must present a certificate of the authority."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def listen(address: str | int) -> socket.socket:
    """A listening socket at `host:port` (port 0: any free one; `[::1]:port` for IPv6).

    Or one that another process made and passed on as a file descriptor, which is taken over. Raises TransportError.
    """
    if isinstance(address, int):
        return _inherited(address)
    host, port = parse_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise TransportError(f"cannot listen at {host} port {port}: {_listen_problem(error)}") from None
    return listener


def address_of(sock: socket.socket) -> str:
    """`host:port` of a socket's own end."""
    return _join(*sock.getsockname()[:2])


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; raises TransportError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+)):(\d{1,5})", address)
    if match is None or int(match[3]) > 65535:
        raise TransportError(f"{address!r} is no network address; write it as host:port, for instance 127.0.0.1:7400")
    return match[1] or match[2], int(match[3])


def connect(
    address: str, context: ssl.SSLContext, peer: str, fingerprint: Pins, timeout: float, *, busy: float = 0.0
) -> ssl.SSLSocket:
    """Connect to `peer`, which may not have started yet, within `timeout` seconds.

    Returns when the peer has accepted us too. Raises PeerRefusedError when a certificate or fingerprint is wrong on
    either side (at once: waiting would not help), PeerBusyError when it serves somebody else for more than `busy`
    seconds, and PeerLostError when the deadline passes.
    """
    return connect_by(lambda attempt: attempt(), address, context, peer, fingerprint, timeout, busy=busy)


def connect_by(
    take: Callable[[Callable[[], ssl.SSLSocket]], Taken],
    address: str,
    context: ssl.SSLContext,
    peer: str,
    fingerprint: Pins,
    timeout: float,
    *,
    busy: float = 0.0,
) -> Taken:
    """Like `connect`; each attempt is made by `take`, which may see to it that the socket is never without an owner."""
    host, port = parse_address(address)
    check_fingerprint(fingerprint, peer)
    where = f"{peer} at {host} port {port}"
    began = time.monotonic()
    deadline = began + timeout
    wait = FIRST_WAIT
    while True:
        try:
            return take(lambda: _attempt(host, port, context, where, fingerprint, deadline))
        except ssl.SSLError as error:
            if not isinstance(error, ssl.SSLEOFError):
                raise PeerRefusedError(f"{where}: {_tls_problem(error)}") from None
            problem: OSError = error
        except PeerBusyError as error:
            if time.monotonic() + wait >= began + min(busy, timeout):
                raise
            problem = OSError(str(error))
        except OSError as error:
            problem = error
        if time.monotonic() + wait >= deadline:
            said = "connected, but went away or said nothing" if isinstance(problem, ssl.SSLEOFError) else str(problem)
            raise PeerLostError(
                f"{where} could not be reached for {timeout:g} s ({said}); start it, or check address and firewall"
            ) from None
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)


def check_fingerprint(pins: Pins, peer: str) -> None:
    """Raises TransportError unless each is `sha256:` and 64 small hex digits, and there is one at least."""
    fingerprints = (pins,) if isinstance(pins, str) else pins
    if not fingerprints or not all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in fingerprints):
        raise TransportError(f"fingerprint of {peer} must be `sha256:` and 64 small hex digits; `certs init` prints it")


def fingerprint_at(sock: ssl.SSLSocket) -> str:
    """The fingerprint of the certificate at the other end; empty without one."""
    der = sock.getpeercert(binary_form=True)
    return "" if der is None else fingerprint_of(der)


def matches(sock: ssl.SSLSocket, pins: Pins) -> bool:
    """Whether the peer's certificate has this fingerprint, or one of these."""
    found = fingerprint_at(sock)
    return any(hmac.compare_digest(found, each) for each in ((pins,) if isinstance(pins, str) else pins))


def prepare(raw: socket.socket) -> None:
    """Small frames leave at once; a host that vanished is noticed even by a process that only listens."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the pinned fingerprint names one certificate, which is more than a host's name
    context.verify_mode = ssl.CERT_REQUIRED
    for path in (identity.certificate, identity.key, identity.ca):
        if not path.is_file():
            raise TransportError(f"{path}: no such file; make certificates with `secure-fair certs init`")
    try:
        # An empty password: an encrypted key fails instead of asking on the terminal of a service.
        context.load_cert_chain(identity.certificate, identity.key, password="")
        context.load_verify_locations(identity.ca)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TransportError(
            f"{identity.certificate}, {identity.key} and {identity.ca} cannot be used together ({reason}); "
            "they must be PEM, belong together, be readable, and the key unencrypted"
        ) from None
    return context


def _attempt(
    host: str, port: int, context: ssl.SSLContext, where: str, fingerprint: Pins, deadline: float
) -> ssl.SSLSocket:
    def left() -> float:
        return max(0.001, min(deadline - time.monotonic(), HANDSHAKE_SECONDS))

    raw = socket.create_connection((host, port), timeout=left())
    try:
        prepare(raw)
        raw.settimeout(left())
        sock = context.wrap_socket(raw)  # takes over `raw`
    except BaseException:
        raw.close()
        raise
    try:
        if not matches(sock, fingerprint):
            raise PeerRefusedError(f"{where} has another certificate than the one pinned; check `fingerprints`")
        sock.settimeout(left())
        answer = sock.recv(1)  # TLS 1.3 leaves the client's handshake before the server has judged its certificate
        if answer == REFUSED:
            raise PeerRefusedError(f"{where} does not expect our certificate now; compare its `fingerprints` with ours")
        if answer == BUSY:
            raise PeerBusyError(f"{where} is busy with another run; try again when that has ended")
        if answer != ACCEPTED:
            raise ConnectionResetError("it went away during the handshake")
    except BaseException:
        sock.close()
        raise
    return sock


def _inherited(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return listener
        listener.detach()
    except OSError:
        pass
    raise TransportError(f"file descriptor {descriptor} is no listening socket; pass one on, or set network.listen")


def _listen_problem(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses this port; stop it, or choose another port in network.listen"
    if error.errno == errno.EACCES:
        return "not permitted; choose a port above 1023 in network.listen"
    return f"{error.strerror or error}; set network.listen to an address of this machine"


def _tls_problem(error: ssl.SSLError) -> str:
    reason = error.reason or str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid here ({error.verify_message}); check `ca` and the certificate's dates"
    if "ALERT" in reason:
        return f"it refused our certificate or version ({reason}); check our certificate, its dates, and its `ca`"
    return f"no TLS 1.3 party answers there ({reason}); check the address"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
