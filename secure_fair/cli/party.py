"""`secure-fair party`: one party of a deployment, one process on one host."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.errors import InterruptedRunError, SettingsError

PATH = click.Path(path_type=Path)
_config = click.option("-c", "--config", "file", type=PATH, required=True, help="This party's settings file.")
_set = click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one setting.")
_serve = click.option("--serve", is_flag=True, help="Go on with the next run after each, until SIGTERM.")


@click.group()
def party() -> None:
    """Run one party of a real deployment; start the three in any order.

    Each host has its own settings file with its [network] section; `secure-fair certs init` makes trial certificates.
    """
    from parties.links import watch_parent

    watch_parent()  # before the seconds that importing a model takes


@party.command(
    epilog="Example: secure-fair party developer -c developer.toml --method orth --release moment --out run/developer"
)
@_config
@click.option("--method", required=True, help="What to train with: erm, orth, adv, ent, ...")
@click.option("--release", required=True, help="What the auditor shall disclose; there is no default.")
@click.option("--out", type=PATH, required=True, help="Folder for adapter, metrics, disclosures and cost.")
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint in --out.")
@click.option(
    "--reuse", type=PATH, help="Developer's folder of an earlier run whose private release serves this one too."
)
@_set
def developer(
    file: Path,
    method: str,
    release: str,
    out: Path,
    resume: bool,
    reuse: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Train on this host's images, asking the auditor for the fairness term.

    On several GPUs of the host: torchrun --nproc-per-node 4 -m secure_fair party developer ...
    """
    effective = settings.load(file, overrides)
    from parties.developer import run_developer
    from secure_fair.training.torchrun import joined

    try:
        with joined(effective) as processes:
            if processes is None:
                return
            with console.Reporter() as report:
                run_developer(effective, method, release, out, report, resume=resume, reuse=reuse, processes=processes)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command with --resume continues") from None


@party.command(epilog="Example: secure-fair party auditor -c auditor.toml --policy policy.toml --out run/auditor")
@_config
@click.option("--policy", "policy_file", type=PATH, required=True, help="The auditor's own policy.toml.")
@click.option(
    "--out", type=PATH, required=True, help="Folder for the log, and for the ledger unless --ledger says other."
)
@click.option("--ledger", type=PATH, help="The ledger; one for the life of the attributes, over all runs.")
@_serve
@_set
def auditor(
    file: Path, policy_file: Path, out: Path, ledger: Path | None, serve: bool, overrides: tuple[str, ...]
) -> None:
    """Serve one run within the policy; nothing of the table leaves but what the policy releases.

    With --serve, one run after another: log.jsonl and health.json in --out tell how it is, and SIGTERM ends it with
    exit status 0; a run that is under way then is ended in order, and can be resumed.
    """
    effective = settings.load(file, overrides)
    from parties.auditor import run_auditor
    from secure_fair.privacy import policy

    _make(out)
    try:
        run_auditor(effective, policy.load(policy_file), ledger or out / "ledger.sqlite", out, forever=serve)
    except KeyboardInterrupt:
        raise InterruptedRunError("the auditor was interrupted; what had been released is in its ledger") from None
    except InterruptedRunError:
        if not serve:
            raise


@party.command(epilog="Example: secure-fair party dealer -c dealer.toml --out run/dealer")
@_config
@click.option("--out", type=PATH, required=True, help="Folder for the log.")
@_serve
@_set
def dealer(file: Path, out: Path, serve: bool, overrides: tuple[str, ...]) -> None:
    """Deal correlated randomness for one run; this party sees shapes only and must not collude with the others.

    With --serve, one run after another; SIGTERM ends it with exit status 0.
    """
    effective = settings.load(file, overrides)
    from parties.dealer import run_dealer

    _make(out)
    try:
        run_dealer(effective.network, out, forever=serve)
    except KeyboardInterrupt:
        raise InterruptedRunError("the dealer was interrupted; start the run again") from None
    except InterruptedRunError:
        if not serve:
            raise


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{out}: cannot be made ({error.strerror}); name a folder that you may write") from None
