"""An auditor and a dealer that serve, and developers that come for runs as short as can be: no model, a few records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from parties.messages import COUNT_BYTES, AuditorHello, DeveloperHello, encode_step
from parties.schedule import batch_sizes, training_plan
from secure_fair import settings
from secure_fair.mpc.engine.party import Party
from secure_fair.mpc.engine.randomness import SEED_BYTES
from secure_fair.mpc.kinds import Kind
from secure_fair.mpc.terms import PublicShape, secure_orth
from secure_fair.transport import certs, tls
from secure_fair.transport.frames import Connection
from tests.parties import commands, world
from tests.parties.commands import PATIENCE, Command, Start
from tests.parties.world import Deployment
from tests.security import asking
from tests.security.asking import Auditor

SHARED = {"fairness__criterion": "parity", "attributes__columns": '["Male"]'}
RELEASES = ("gradient", "moment", "randomized-response")


class Services:
    """The two services of one test, with as many known developers as it names."""

    def __init__(self, start: Start, folder: Path, identities: Deployment, developers: Sequence[str] = ()) -> None:
        self.folder, self.deployment = folder, identities.elsewhere()
        self.developers = {"developer": self.deployment.identities["developer"]}
        for name in developers:
            file = certs.make_party(folder_of(identities), name, ["127.0.0.1"])
            self.developers[name] = tls.Identity(file, file.with_suffix(".key"), folder_of(identities) / "ca.crt")
        pins = [certs.fingerprint(identity.certificate) for identity in self.developers.values()]
        table = asking.write_table(folder / "attributes.csv")
        rules = world.write_policy(folder / "policy.toml", RELEASES, epsilon=10.0**4)
        self.ledger = folder / "ledger.sqlite"
        (folder / "settings.toml").write_text("")
        own = {
            "auditor": ("--policy", str(rules), "--ledger", str(self.ledger), "--serve"),
            "dealer": ("--serve",),
        }
        self.commands: dict[str, Command] = {}
        for role, arguments in own.items():
            # Dotted keys of one table cannot be mixed with a list for `developer`, so this one comes last and alone.
            line = self.deployment.party(
                role,
                folder / "settings.toml",
                folder / role,
                *arguments,
                **SHARED,
                attributes__file=table,
                network__fingerprints__developer=json.dumps(pins),
                network__start_timeout_seconds=5,
            )
            self.commands[role] = start(role, line)
        self.settings = settings.load(None, tuple(f"{key.replace('__', '.')}={value}" for key, value in SHARED.items()))

    def connect(self, peer: str, developer: str = "developer") -> Connection:
        """As one of the developers; the service may still be on its way."""
        context = tls.client_context(self.developers[developer])
        address, pin = self.deployment.addresses[peer], self.deployment.fingerprints[peer]
        sock = tls.connect(address, context, peer, pin, PATIENCE, busy=2.0)
        return Connection(sock, peer, timeout_seconds=PATIENCE)

    @contextmanager
    def visit(self, developer: str = "developer") -> Iterator[Auditor]:
        with ExitStack() as stack:
            connection = stack.enter_context(self.connect("auditor", developer))
            yield Auditor(self.commands["auditor"], connection, self.deployment, self.settings, self.ledger, stack)

    def process(self, role: str) -> psutil.Process:
        return psutil.Process(self.commands[role].process.pid)

    def events(self, role: str) -> list[dict[str, Any]]:
        file = self.folder / role / "log.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def count(self, role: str, event: str) -> int:
        return sum(line["event"] == event for line in self.events(role))

    def until(self, role: str, event: str) -> None:
        """Until the party's log has the event."""
        commands.until(lambda: self.count(role, event))

    def wait_for(self, runs: int) -> None:
        """Until the auditor has served so many runs, well or badly."""
        commands.until(lambda: self.count("auditor", "run ended") + self.count("auditor", "run failed") >= runs)

    def until_idle(self) -> None:
        """Until both services have waited for a run for a second: they have started, and whoever came before is gone.

        A process may need long to start on a machine that has other things to do.
        """
        seen: list[tuple[Any, ...]] = []
        since = time.monotonic()

        def idle() -> bool:
            nonlocal seen, since
            if not all((self.folder / role / "health.json").exists() for role in self.commands):
                return False
            facts = [tuple(self.health(role)[name] for name in ("state", "served", "failed")) for role in self.commands]
            if facts != seen:
                seen, since = facts, time.monotonic()
            return all(state == "waiting" for state, *_ in facts) and time.monotonic() > since + 1

        commands.until(idle, 2 * PATIENCE)

    def health(self, role: str) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((self.folder / role / "health.json").read_text())
        return table


def folder_of(identities: Deployment) -> Path:
    return identities.identities["developer"].certificate.parent


def short_run(auditor: Auditor, release: str, stop_after: int | None = None) -> None:
    """One run from the request to its end; with `stop_after` a gradient run is left after so many steps."""
    if release == "moment":
        asking.moments(auditor, auditor.hello("orth", release), asking.zeros(17))
        return
    if release == "randomized-response":
        asking.responses(auditor, auditor.hello("orth", release))
        return
    asked = auditor.hello("orth", "gradient")
    answer, _ = auditor.ask(asked)
    go_on(auditor, asked, answer, stop_after)


def go_on(
    auditor: Auditor,
    asked: DeveloperHello,
    answer: AuditorHello,
    stop_after: int | None = None,
    between: Callable[[int], None] = lambda _: None,
) -> None:
    """The steps of a gradient run that has been accepted, and its end; `between` is called before each step."""
    auditor.connection.receive(Kind.HELLO, size=COUNT_BYTES + SEED_BYTES)
    public = PublicShape(asked.width, asked.classes, answer.groups)
    source = auditor.source(training_plan(secure_orth(), auditor.settings, public, asked))
    party = Party("developer", auditor.connection, source)
    drawn = torch.Generator().manual_seed(0)
    number = 0

    def announce(positions: torch.Tensor) -> None:
        auditor.connection.send(Kind.STEP, *encode_step(number, positions.numpy()))

    term = secure_orth().developer(auditor.settings, public, party, announce)
    for number, n in batch_sizes(asked):
        if number == stop_after:
            auditor.connection.fail("the test leaves")
            return
        between(number)
        h = torch.randn(n, asked.width, generator=drawn)
        term.begin(h, torch.zeros(n, dtype=torch.int64), torch.randperm(asked.train, generator=drawn)[:n])
        assert torch.isfinite(term.finish())
    auditor.end()
    source.close()
