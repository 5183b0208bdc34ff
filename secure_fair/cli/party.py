"""`secure-fair party`: one party of a deployment, one process on one host."""

from __future__ import annotations

from pathlib import Path

import click

from secure_fair import settings
from secure_fair.cli import console
from secure_fair.cli.serving import PATH, auditor_options, config_option, serve_option, served, set_option
from secure_fair.errors import InterruptedRunError


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
@config_option
@click.option("--method", required=True, help="What to train with: erm, orth, adv, ent, ...")
@click.option("--release", required=True, help="What the auditor shall disclose; there is no default.")
@click.option("--out", type=PATH, required=True, help="Folder for adapter, metrics, disclosures and cost.")
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint in --out.")
@click.option(
    "--reuse",
    type=PATH,
    help="Developer's folder of an earlier run whose moment, randomized-response or predictor serves this one.",
)
@set_option
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
    from parties.leftovers import removed_if_refused
    from secure_fair.training.torchrun import joined

    try:
        with joined(effective) as processes:
            if processes is None:
                return
            with removed_if_refused(out, alone=True), console.Reporter() as report:
                run_developer(effective, method, release, out, report, resume=resume, reuse=reuse, processes=processes)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"{out}: interrupted; the same command with --resume continues") from None


@party.command(epilog="Example: secure-fair party auditor -c auditor.toml --policy policy.toml --out run/auditor")
@auditor_options
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

    with served(out, "the auditor was interrupted; what had been released is in its ledger", forever=serve):
        run_auditor(effective, policy.load(policy_file), ledger or out / "ledger.sqlite", out, forever=serve)


@party.command(epilog="Example: secure-fair party dealer -c dealer.toml --out run/dealer")
@config_option
@click.option("--out", type=PATH, required=True, help="Folder for the log.")
@serve_option
@set_option
def dealer(file: Path, out: Path, serve: bool, overrides: tuple[str, ...]) -> None:
    """Deal correlated randomness for one run; this party sees shapes only and must not collude with the others.

    With --serve, one run after another; SIGTERM ends it with exit status 0.
    """
    effective = settings.load(file, overrides)
    from parties.dealer import run_dealer

    with served(out, "the dealer was interrupted; start the run again", forever=serve):
        run_dealer(effective.network, out, forever=serve)
