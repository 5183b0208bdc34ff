"""The program `secure-fair`: commands are imported when they run, so that `--help` is quick and loads no torch."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from secure_fair import __version__
from secure_fair.elastic import several
from secure_fair.errors import TOLD, InterruptedRunError, SecureFairError

SHARED = ("train", "party")  # whose work `torchrun` can share out over processes
INTERRUPTED = 130  # what a shell reports for a program stopped by Ctrl-C

# name -> (module:attribute, one line for `secure-fair --help`)
COMMANDS = {
    "demo": ("secure_fair.cli.demo:demo", "The whole story on faces drawn here; needs no data and no network."),
    "data": ("secure_fair.cli.data:data", "Draw procedural faces, prepare a data set, check the result."),
    "train": ("secure_fair.cli.train:train", "The plaintext baseline: one process, attributes in the clear."),
    "simulate": (
        "secure_fair.cli.simulate:simulate",
        "Train with secret-shared attributes: three processes, one machine.",
    ),
    "compare": (
        "secure_fair.cli.compare:compare",
        "Train in plaintext and under each release; set results side by side.",
    ),
    "report": ("secure_fair.cli.report:report", "One self-contained HTML page about what a command has written."),
    "party": ("secure_fair.cli.party:party", "Run one party of a real deployment: developer, auditor or dealer."),
    "audit": ("secure_fair.cli.audit:audit", "Audit any model's predictions by groups that only the auditor knows."),
    "leakage": ("secure_fair.cli.leakage:leakage", "Run the attacks on what a run disclosed, and score them."),
    "ledger": ("secure_fair.cli.ledger:ledger", "Show what an auditor has released so far, and the privacy spent."),
    "certs": ("secure_fair.cli.certs:certs", "Make a private authority and party certificates for a trial."),
    "experiment": (
        "secure_fair.cli.experiment:experiment",
        "A grid of tasks, attributes, methods, releases and seeds; the paper's table.",
    ),
    "bench": ("secure_fair.cli.bench:bench", "Benchmarks; every result names its command, versions and hardware."),
    "doctor": ("secure_fair.cli.doctor:doctor", "Check this installation; every failing line says what to mend."),
    "config": ("secure_fair.cli.config:config", "Write a commented settings or policy file; show what is in effect."),
}


@dataclasses.dataclass
class Invocation:
    """What the program has to know after a command has failed."""

    debug: bool = False


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(Invocation).debug |= value


DEBUG = click.Option(
    ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an error."
)


class LazyGroup(click.Group):
    """A group whose commands are named in COMMANDS and imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no such command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if args[0] not in SHARED and several():
            ctx.fail(f"torchrun would start `{args[0]}` several times over; it is for train and for party developer")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        _accept_debug(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _accept_debug(command: click.Command) -> None:
    """`--debug` is accepted before the command, and after it, where people write it."""
    if DEBUG not in command.params:
        command.params.append(DEBUG)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _accept_debug(inner)


@click.group(
    cls=LazyGroup,
    params=[DEBUG],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: secure-fair demo --out demo",
)
@click.version_option(__version__, prog_name="secure-fair")
def cli() -> None:
    """Fairness-aware fine-tuning and fairness audits in which sensitive attributes stay secret-shared.

    Exit status: 0 success; 1 a failure, explained in one line; 2 wrong usage; 130 interrupted.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; every error becomes one line on standard error."""
    invocation = Invocation()
    try:
        result = cli.main(
            args=list(arguments) if arguments is not None else None,
            prog_name="secure-fair",
            standalone_mode=False,
            obj=invocation,
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0  # click returns the status of `ctx.exit(status)`
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output went away (`secure-fair ... | head`): not an error to talk about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, click.Abort) as error:  # noqa: BLE001 the last door: what leaves here would be a traceback
        if invocation.debug:
            traceback.print_exc()
        _tell(f"error: {_explain(error)}")
        return INTERRUPTED if isinstance(error, (click.Abort, InterruptedRunError)) else 1


def _tell(line: str) -> None:
    """On standard error, or to the launcher of this party."""
    if TOLD in os.environ:
        Path(os.environ[TOLD]).write_text(line + "\n", encoding="utf-8")
    else:
        click.echo(line, err=True)


def _explain(error: BaseException) -> str:
    if isinstance(error, SecureFairError):
        text = str(error)
    elif isinstance(error, click.Abort):
        text = "interrupted"
    elif isinstance(error, ImportError):
        text = f"{error}; `secure-fair doctor` says which package to mend"
    elif isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        hint = "; free some space" if error.errno == errno.ENOSPC else ""
        text = f"{where}{error.strerror}{hint}"
    else:
        text = f"unexpected {type(error).__name__}: {error}; run again with --debug and report the traceback"
    return " ".join(text.split())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script."""
    sys.exit(run(arguments))
