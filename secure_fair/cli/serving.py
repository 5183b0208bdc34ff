"""What commands that run one party share: their options, and how a party that serves ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from secure_fair.elastic import several
from secure_fair.errors import InterruptedRunError, SettingsError

PATH = click.Path(path_type=Path)
config_option = click.option("-c", "--config", "file", type=PATH, required=True, help="This party's settings file.")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting."
)
serve_option = click.option("--serve", is_flag=True, help="Go on with the next run after each, until SIGTERM.")
_OF_AUDITORS = (
    config_option,
    click.option("--policy", "policy_file", type=PATH, required=True, help="The auditor's own policy.toml."),
    click.option(
        "--out", type=PATH, required=True, help="Folder for the log, and for the ledger unless --ledger says other."
    ),
    click.option("--ledger", type=PATH, help="The ledger; one for the life of the attributes, over all runs."),
    serve_option,
    set_option,
)


def auditor_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an auditor's process, of trainings or of audits."""
    for option in reversed(_OF_AUDITORS):
        command = option(command)
    return command


@contextmanager
def served(out: Path, interrupted: str, *, forever: bool) -> Iterator[None]:
    """For a block that serves others: OUT is there, and an interruption is said in these words.

    forever: SIGTERM, which the block reports as an InterruptedRunError, is a good end.
    """
    if several():
        raise SettingsError("torchrun would start this party several times over; it is for train and party developer")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{out}: cannot be made ({error.strerror}); name a folder that you may write") from None
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(interrupted) from None
    except InterruptedRunError:
        if not forever:
            raise
