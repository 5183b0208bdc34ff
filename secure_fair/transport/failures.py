"""What it means for a connection when reading or sending goes wrong: an error that names the peer and the mend."""

from __future__ import annotations

import ssl

from secure_fair.errors import FrameError, PeerLostError, PeerStalledError, TransportError


def unreadable(error: Exception, peer: str, timeout: float) -> TransportError:
    """What a failure to read from `peer` for `timeout` seconds means."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, TimeoutError):
        return stalled(peer, "send anything", timeout)
    if isinstance(error, MemoryError):
        return FrameError(f"{peer} sent a frame larger than this machine's memory; lower the batch size")
    if isinstance(error, ssl.SSLError):
        return FrameError(f"bytes from {peer} are not its TLS ({error.reason}); check the network")
    if not isinstance(error, (OSError, EOFError)):
        # Its text might hold what was received.
        return TransportError(f"reading from {peer} failed with {type(error).__name__}; please report it")
    how = "without closing the connection" if isinstance(error, EOFError) else f"({error})"
    return PeerLostError(f"{peer} went away {how}; see its own log")


def stalled(peer: str, what: str, timeout: float) -> PeerStalledError:
    """The peer did not do `what` for so many seconds."""
    return PeerStalledError(
        f"{peer} did not {what} for {timeout:g} s; see whether it runs, or raise network.timeout_seconds"
    )
