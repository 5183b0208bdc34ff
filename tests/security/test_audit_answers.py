"""What an auditor of audits answers, when the test is its developer and its dealer and says what it wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from parties.audit_messages import AuditAccepted, AuditDebited, AuditHello, AuditTerms, id_key
from parties.messages import PROTOCOL_VERSION
from secure_fair import settings
from secure_fair.audit.columns import read_ids
from secure_fair.errors import PeerRefusedError
from secure_fair.mpc.dealing.source import SESSION_BYTES
from secure_fair.mpc.engine.randomness import SEED_BYTES
from secure_fair.mpc.kinds import Kind
from secure_fair.privacy.accountant import Budget, gaussian_cost
from secure_fair.privacy.ledger import Ledger
from secure_fair.transport import tls
from secure_fair.transport.accept import Acceptor
from secure_fair.transport.frames import Connection
from tests.parties.commands import PATIENCE, Command, Start
from tests.parties.world import Deployment

RECORDS = 40
COLUMNS = 3  # of the developer: four cells but one
SETTINGS = '[attributes]\ncolumns = ["Sex"]\n'
HELLO = AuditHello(PROTOCOL_VERSION, "00", "", RECORDS, classes=2, bins=0, bits=0, predictions="", earlier="")


class Office:
    """One auditor after another, on one ledger, and a dealer that deals what it has dealt before."""

    def __init__(self, folder: Path, start: Start, deployment: Deployment) -> None:
        self.folder, self.start, self.deployment = folder, start, deployment
        self.ledger = folder / "ledger.sqlite"
        self.commitments: list[str] = []  # that auditors have sent
        self.table = folder / "attributes.csv"
        self.table.write_text("id,Sex\n" + "".join(f"r{i:02d},{'fm'[i % 2]}\n" for i in range(RECORDS)))
        (folder / "settings.toml").write_text(SETTINGS)
        listener = tls.listen(deployment.addresses["dealer"])
        self.dealer = Acceptor(listener, tls.server_context(deployment.identities["dealer"]))

    def auditor(self, more: str = "") -> Command:
        """`more`: lines of its policy."""
        rules = self.folder / "policy.toml"
        rules.write_text(
            f'[policy]\nreleases = ["audit"]\nepsilon = 4.0\ndelta = 1e-5\nmin_group = 1\n{more}'
            '[policy.categories]\nSex = ["f", "m"]\n'
        )
        own = ["--policy", str(rules), "--ledger", str(self.ledger)]
        config, out = self.folder / "settings.toml", self.folder / "auditor"
        arguments = self.deployment.party("auditor", config, out, *own, attributes__file=self.table)
        return self.start("auditor", ["audit", *arguments[1:]])

    def hello(self) -> AuditHello:
        return replace(HELLO, settings=settings.load(self.folder / "settings.toml").audit_digest())

    def audit(self, developer: Connection, asked: AuditHello, accepted: Callable[[], None] = lambda: None) -> bytes:
        """A whole audit of masked zeros; what the auditor sends in the end. `earlier` is not asked for.

        accepted: called when the auditor has accepted, and has counted nothing yet.
        """
        developer.send(Kind.HELLO, asked.encode())
        terms = AuditTerms.decode(bytes(developer.receive(Kind.HELLO)), "auditor")
        pins = {"auditor": (self.deployment.fingerprints["auditor"],)}
        with Connection(self.dealer.accept(pins, PATIENCE)[1], "auditor", timeout_seconds=PATIENCE) as dealer:
            hashes = read_ids(self.table, None).keyed(id_key(asked.nonce, terms.nonce))
            developer.send(Kind.RECORDS, memoryview(hashes).cast("B"))
            AuditAccepted.decode(bytes(developer.receive(Kind.HELLO)), "auditor")
            dealer.receive(Kind.PLAN)
            dealer.send(Kind.SEED, bytes(SESSION_BYTES) + bytes(SEED_BYTES))
            accepted()
            developer.send(Kind.MASKED, bytes(4 * RECORDS * COLUMNS))
            developer.receive(Kind.MASKED)
            self.commitments.append(AuditDebited.decode(bytes(developer.receive(Kind.HELLO)), "auditor").commitment)
            developer.receive(Kind.HELLO, size=0)
            answer = bytes(developer.receive(Kind.OPEN))
            dealer.receive(Kind.END)
        developer.send(Kind.END)
        return answer


@pytest.fixture
def office(tmp_path: Path, start: Start, deployment: Deployment) -> Iterator[Office]:
    made = Office(tmp_path, start, deployment)
    with made.dealer:
        yield made


def test_a_session_that_was_answered_is_answered_with_the_same_bytes(office: Office) -> None:
    """The dealer chooses a session's name. One that it uses again gets no other noise, and so no debit is missing.

    Other noise under the same masks and without a debit would be as good as none: the mean over many audits.
    """
    answers = []
    for _ in range(3):
        command = office.auditor()
        with office.deployment.connect("auditor") as developer:
            answers.append(office.audit(developer, office.hello()))
            assert command.wait() == 0, command.text
    assert len(answers[0]) == 4 * 8  # two groups of four cells
    assert len(office.commitments) == 3
    assert answers[0] == answers[1] == answers[2]
    with Ledger(office.ledger, by_person=None) as ledger:
        (release,) = ledger.releases()
    assert (release.persons, release.answered) == (RECORDS, True)


@pytest.mark.parametrize("mode", ["noised", "exact"])
def test_who_cannot_debit_does_not_commit_either(office: Office, mode: str) -> None:
    """The commitment tells whether the table has changed, so it is for a developer who has paid.

    Somebody else spends the budget between the auditor's consent and its debit.
    """

    def spend() -> None:
        with Ledger(office.ledger, by_person=None) as ledger:
            people = ledger.people(f"r{i:02d}" for i in range(RECORDS))
            ledger.reserve("audit", b"another", people, gaussian_cost(4.0, 1e-5), Budget(4.0, 1e-5))

    frozen = f'["{read_ids(office.table, None).digest()}"]'
    command = office.auditor("" if mode == "noised" else f'audits = "exact"\naudit_sets = {frozen}\n')
    with office.deployment.connect("auditor") as developer:
        with pytest.raises(PeerRefusedError, match="40 of 40 people in the request"):
            office.audit(developer, office.hello(), spend)
        assert command.wait() == 1
    with Ledger(office.ledger, by_person=None) as ledger:
        assert len(ledger.releases()) == 1
    assert office.commitments == []
