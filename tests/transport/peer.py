"""A developer in a process of its own: connects, says that it is ready, and sends back what it gets."""

from __future__ import annotations

import sys
from pathlib import Path

from secure_fair.transport import tls
from secure_fair.transport.frames import Connection

READY = 16


def main(address: str, directory: Path, fingerprint: str, timeout: float) -> None:
    identity = tls.Identity(directory / "developer.crt", directory / "developer.key", directory / "ca.crt")
    sock = tls.connect(address, tls.client_context(identity), "auditor", fingerprint, 20)
    with Connection(sock, "auditor", timeout_seconds=timeout) as connection:
        connection.send(READY)
        while True:
            connection.send(READY, connection.receive(READY))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
