"""A developer that says what a test wants, to auditors and dealers that are real processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from parties.handshake import developer_hello, fresh_nonce
from parties.messages import COUNT_BYTES, PROTOCOL_VERSION, AuditorHello, DeveloperHello, Positions, decode_count
from parties.moments import moment_plan
from secure_fair import settings
from secure_fair.mpc.dealing.plan import Plan
from secure_fair.mpc.dealing.source import CorrelationSource
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.protocols.moment import MomentShape, developer_moment, joined
from secure_fair.privacy.accountant import Cost
from secure_fair.privacy.ledger import Ledger, Release
from secure_fair.transport.frames import Connection
from tests.parties import world
from tests.parties.commands import Command, Start
from tests.parties.world import Deployment

RECORDS = 24
Integers = npt.NDArray[np.int64]


def write_table(file: Path, people: int = 0, *, swapped: bool = False) -> Path:
    """RECORDS rows in no order; `swapped` gives each another value of each attribute. people: of `identity`, if any."""
    tones = ("Pale_Skin", "Medium_Skin", "Dark_Skin")
    rows = ["id,Male,SkinTone,identity"]
    for i in (7 * j % RECORDS for j in range(RECORDS)):
        male = (i % 3 == 0) != swapped
        rows.append(f"r{i:03d},{'yes' if male else 'no'},{tones[(i + swapped) % 3]},p{i % (people or RECORDS)}")
    file.write_text("\n".join(rows) + "\n")
    return file


IDS = [f"r{i:03d}" for i in range(RECORDS)]


def honest_hello(own: settings.Settings, method: str, release: str) -> DeveloperHello:
    """About the first 20 of the 24 records."""
    return DeveloperHello(
        protocol=PROTOCOL_VERSION,
        nonce=fresh_nonce(),
        method=method,
        release=release,
        settings=own.shared_digest(method, release),
        records=RECORDS,
        train=20,
        epochs=2,
        batch_size=8,
        seed=0,
        width=16,
        classes=2,
        features=16,
        releases=1,
        first=0,
        earlier="",
        run="0" * 32,
        steps=(),
        checkpoint_steps=200,
    )


@dataclass
class Auditor:
    """An auditor's process, its files, and the developer's channel to it."""

    command: Command
    connection: Connection
    deployment: Deployment
    settings: settings.Settings
    ledger: Path
    closing: ExitStack
    sessions: list[str] = field(default_factory=list)

    def hello(self, method: str, release: str, **changes: Any) -> DeveloperHello:
        """An honest request, apart from the changes."""
        return dataclasses.replace(honest_hello(self.settings, method, release), **changes)

    def ask(self, hello: DeveloperHello, train: Sequence[int] = range(20)) -> tuple[AuditorHello, int]:
        """The handshake; raises PeerRefusedError with the auditor's words."""
        positions: Positions = np.array(train, dtype=np.int64)
        return developer_hello(self.connection, hello, IDS, positions)

    def source(self, plan: Plan) -> CorrelationSource:
        """The dealer's randomness; the auditor's process asks for its own at the same time."""
        dealer = self.closing.enter_context(self.deployment.connect("dealer"))
        return CorrelationSource("developer", dealer, plan)

    def sent_again(self) -> bool:
        """Whether the auditor answers a moment with what it has stored."""
        return bool(decode_count(self.connection.receive(Kind.HELLO, size=COUNT_BYTES)))

    def end(self) -> None:
        """As a developer that has got what it wanted."""
        self.connection.send(Kind.END)

    def debits(self) -> list[Release]:
        with Ledger(self.ledger, None) as ledger:
            return ledger.releases()

    def spent(self, person: str) -> Cost:
        with Ledger(self.ledger, None) as ledger:
            return ledger.spent(person)


class Office:
    """Starts auditors, each with a dealer of its own, in one test's folder."""

    def __init__(self, start: Start, folder: Path, identities: Deployment) -> None:
        self._start, self._folder, self._identities = start, folder, identities
        self._count = 0

    @contextmanager
    def auditor(
        self,
        releases: Sequence[str] = ("gradient", "moment", "randomized-response"),
        *,
        swapped: bool = False,
        people: int = 0,
        ledger: Path | None = None,
        policy: dict[str, Any] | None = None,
        dealer: bool = True,
        **own: Any,
    ) -> Iterator[Auditor]:
        """`own`: settings of both sides, written section__key; people, ledger, policy: what the auditor has."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        deployment = self._identities.elsewhere()
        table = write_table(folder / "attributes.csv", people, swapped=swapped)
        more = dict(policy or {}) | ({"person": "identity"} if people else {})
        rules = world.write_policy(folder / "policy.toml", releases, **more)
        shared = {"fairness__criterion": "parity", "attributes__columns": '["Male"]', **own}
        config = folder / "settings.toml"
        config.write_text("")
        file = ledger or folder / "ledger.sqlite"
        arguments = ["--policy", str(rules), "--ledger", str(file)]
        command = self._start(
            f"auditor{self._count}",
            deployment.party("auditor", config, folder, *arguments, **shared, attributes__file=table),
        )
        if dealer:
            self._start(f"dealer{self._count}", deployment.party("dealer", config, folder / "dealer"))
        mine = settings.load(None, tuple(f"{key.replace('__', '.')}={value}" for key, value in shared.items()))
        with ExitStack() as stack:
            connection = stack.enter_context(deployment.connect("auditor"))
            yield Auditor(command, connection, deployment, mine, file, stack)


def zeros(width: int) -> Integers:
    """u for 20 records: then a moment is noise and nothing else."""
    return np.zeros((20, width), dtype=np.int64)


def moments(
    auditor: Auditor,
    asked: DeveloperHello,
    u: Integers,
    train: Sequence[int] = range(20),
    labels: Integers | None = None,
    *,
    stop: bool = True,
    keep: Callable[[torch.Tensor], None] = lambda _: None,
) -> list[Integers]:
    """Every moment of the request, as it was opened.

    u [20, D] of the first one; later ones have zeros for what they add. `keep` gets the developer's share when only
    the auditor's answer is missing.
    """
    answer, _ = auditor.ask(asked, train)
    assert not auditor.sent_again()
    plans = [
        moment_plan(auditor.settings, answer.groups, asked.classes, asked.features, answer.weighted, index)
        for index in range(asked.releases)
    ]
    shapes = [MomentShape(p.dimension, p.columns, p.classes, asked.train) for p in plans]
    source = auditor.source(joined(shapes))
    party = Party("developer", auditor.connection, source)
    opened = []
    for shape in shapes:
        wide = torch.from_numpy(np.pad(u, ((0, 0), (0, shape.dimension - u.shape[1]))))
        y = None if labels is None else torch.nn.functional.one_hot(torch.from_numpy(labels), shape.classes)
        rows = [slice(start, min(start + shape.block, asked.train)) for start in range(0, asked.train, shape.block)]
        blocks = [(wide[part], None if y is None else y[part]) for part in rows]
        opened.append(developer_moment(party, shape, blocks, keep).numpy())
    auditor.sessions.append(source.session)
    if stop:
        auditor.end()
        source.close()
    return opened


def responses(auditor: Auditor, asked: DeveloperHello, train: Sequence[int] = range(20)) -> bytes:
    """The bytes of a randomized response."""
    auditor.ask(asked, train)
    payload = bytes(auditor.connection.receive(Kind.OPEN))
    auditor.end()
    return payload
