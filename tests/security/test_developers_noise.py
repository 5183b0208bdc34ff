"""The noise under which an auditor sees the counts of an exact audit, when the test is auditor and dealer."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from parties.audit_kept import SHARE_FILE, Kept
from parties.audit_messages import EXACT, HASH_BYTES, AuditAccepted, AuditDebited, AuditHello, AuditTerms
from parties.messages import PROTOCOL_VERSION
from secure_fair.errors import PeerRefusedError, RunError
from secure_fair.mpc.dealing.correlations import correction_elements
from secure_fair.mpc.dealing.source import CREDIT, SESSION_BYTES
from secure_fair.mpc.engine.randomness import RING_BYTES, SEED_BYTES
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.counts import CountShape
from secure_fair.transport import tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from tests.parties.commands import PATIENCE, Command, Start
from tests.parties.world import Deployment

RECORDS = 40
TERMS = AuditTerms(PROTOCOL_VERSION, "00", EXACT, 20, to_both=False, groups=(2,), names=("f", "m"))
FIRST, OTHER = (f"sha256:{digit * 64}" for digit in "01")


class Peers:
    """An auditor and a dealer that always do the same: the developer's share is the same in every attempt."""

    def __init__(self, folder: Path, start: Start, deployment: Deployment) -> None:
        self.folder, self.start, self.deployment = folder, start, deployment
        self.table = folder / "predictions.csv"
        self.settings = folder / "settings.toml"
        self.write(0)
        self.settings.write_text('[attributes]\ncolumns = ["Sex"]\n')
        self.auditor, self.dealer = (
            Acceptor(tls.listen(deployment.addresses[role]), tls.server_context(deployment.identities[role]))
            for role in ("auditor", "dealer")
        )

    def write(self, prediction: int) -> None:
        """The developer's table, with this prediction of the first record."""
        rows = "".join(f"r{i:02d},{i % 2},{i // 2 % 2 if i else prediction}\n" for i in range(RECORDS))
        self.table.write_text(f"id,label,prediction\n{rows}")

    def attempt(self, out: str, commitment: str) -> tuple[Command, bytes]:
        """An exact audit that the auditor leaves when it has seen the noised counts; what it saw."""
        arguments = self.deployment.party(
            "developer", self.settings, self.folder / out, audit__predictions=self.table, network__timeout_seconds=20
        )
        command = self.start("developer", ["audit", *arguments[1:]])
        with self.accept(self.auditor) as developer:
            hello = AuditHello.decode(bytes(developer.receive(Kind.HELLO)), "developer")
            with self.accept(self.dealer) as dealer:
                developer.send(Kind.HELLO, TERMS.encode())
                developer.receive(Kind.RECORDS, size=HASH_BYTES * RECORDS)
                developer.send(Kind.HELLO, AuditAccepted(PROTOCOL_VERSION, 1, stored=False).encode())
                shape = CountShape(RECORDS, TERMS.groups, hello.layout.combine)
                dealer.receive(Kind.PLAN)
                dealer.send(Kind.SEED, bytes(SESSION_BYTES) + bytes(SEED_BYTES))
                dealer.receive(Kind.CREDIT, size=CREDIT.size)
                dealer.send(Kind.CORRECTION, bytes(RING_BYTES * correction_elements(shape.program(RECORDS))))
                developer.receive(Kind.MASKED)
                developer.send(Kind.MASKED, bytes(4 * RECORDS * shape.kept))
                developer.send(Kind.HELLO, AuditDebited(PROTOCOL_VERSION, commitment).encode())
                seen = bytes(developer.receive(Kind.OPEN))
                developer.fail("the disk is full")
        assert command.wait() == 1
        return command, seen

    def accept(self, acceptor: Acceptor) -> Connection:
        pins = {"developer": (self.deployment.fingerprints["developer"],)}
        return Connection(acceptor.accept(pins, PATIENCE)[1], "developer", timeout_seconds=PATIENCE)


@pytest.fixture
def peers(tmp_path: Path, start: Start, deployment: Deployment) -> Iterator[Peers]:
    made = Peers(tmp_path, start, deployment)
    with made.auditor, made.dealer:
        yield made


def test_one_noise_for_all_attempts_at_an_audit(peers: Peers) -> None:
    """Fresh noise in each would let the auditor take the mean; another folder is another audit, with other noise."""
    _, first = peers.attempt("out", FIRST)
    _, again = peers.attempt("out", FIRST)
    _, elsewhere = peers.attempt("elsewhere", FIRST)
    assert len(first) == 4 * 8  # two groups of four cells
    assert first == again != elsewhere
    assert stat.S_IMODE((peers.folder / "out" / SHARE_FILE).stat().st_mode) == 0o600


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    Kept("session", bytes(32), torch.zeros(2, 4, dtype=torch.int32)).save(tmp_path)
    assert Kept.load(tmp_path) is not None
    whole = (tmp_path / SHARE_FILE).read_bytes()
    for part in (b"", whole[:100], bytes(len(whole))):
        (tmp_path / SHARE_FILE).write_bytes(part)
        with pytest.raises(RunError, match=r"audit_share\.npz: damaged"):
            Kept.load(tmp_path)
    refused = 0
    for place in range(len(whole)):
        (tmp_path / SHARE_FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        try:
            Kept.load(tmp_path)  # dates and the like may be anything
        except RunError:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize("changed", ["table", "predictions", "layout"])
def test_the_noise_hides_one_thing_only(peers: Peers, changed: str) -> None:
    """Two counts under one noise have an exact difference: of the one person whose value was changed."""
    peers.attempt("out", FIRST)
    if changed == "predictions":
        peers.write(1)
    if changed == "layout":  # of the same codes
        peers.settings.write_text('[attributes]\ncolumns = ["Sex"]\n[audit]\nclasses = ["0", "1", "2"]\n')
    with pytest.raises(PeerRefusedError, match="broke off when the auditor had seen its counts"):
        peers.attempt("out", OTHER if changed == "table" else FIRST)
