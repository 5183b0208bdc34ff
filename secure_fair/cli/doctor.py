"""`secure-fair doctor`: is everything here that a run needs? Each line that is not `ok` says what to mend."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import os
import platform
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from secure_fair.cli import console
from secure_fair.errors import SecureFairError

PORTS = 3  # one for each pair of parties
LEAST_DISK = 2 * 2**30  # a demo's images, runs and checkpoints
LEAST_MEMORY = 6 * 2**30  # three processes with torch, and the developer's training
INSTALL = "install again with `make install`, or `pip install -c constraints.txt -e .`"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report. `warn`: works, with a limit; `fail`: a run will not work."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


@click.command(epilog="Example: secure-fair doctor --out runs --json")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder that runs will be written to.",
)
@console.json_option
def doctor(out: Path, as_json: bool) -> None:
    """Check versions, imports, GPU, ports, disk and permissions; exit 1 when something essential fails."""
    findings = [*versions(), *imports(), gpu(), tls(), ports(), memory(), disk(out), writable("output folder", out)]
    findings.append(writable("temporary folder", Path(tempfile.gettempdir())))
    if as_json:
        console.print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.status:<4}  {finding.name}: {finding.detail}")
            if finding.mend:
                click.echo(f"      mend: {finding.mend}")
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        raise SecureFairError(f"a run will not work here, see the lines above; failing: {', '.join(failed)}")


def versions() -> Iterator[Finding]:
    """Python, the platform, and each dependency against the range that secure-fair's own metadata states."""
    yield Finding(
        "platform",
        "ok" if sys.platform == "linux" else "warn",
        f"{platform.system()} {platform.machine()}",
        "" if sys.platform == "linux" else "Linux is what is tested; on Windows use WSL",
    )
    try:
        metadata = importlib.metadata.metadata("secure-fair")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("secure-fair", "fail", "not installed as a package", INSTALL)
        return
    yield judge("Python", platform.python_version(), metadata["Requires-Python"])
    for text in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "fail", f"not installed; {requirement.specifier} is needed", INSTALL)
            continue
        yield judge(requirement.name, found, str(requirement.specifier))


def judge(name: str, found: str, supported: str) -> Finding:
    """Is version `found` within the supported range?"""
    if SpecifierSet(supported).contains(found, prereleases=True):
        return Finding(name, "ok", f"{found} (supported: {supported})")
    return Finding(name, "fail", f"{found} is outside of the supported range {supported}", INSTALL)


def imports() -> Iterator[Finding]:
    """The imports that fail when packages are there but do not fit each other."""
    yield _import(
        "torch and torchvision", "torchvision", "install both from the same package index, in matching versions"
    )
    yield _import("CrypTen", "secure_fair.mpc.engine.compat", f"torch must be in its supported range; {INSTALL}")


def _import(name: str, module: str, mend: str) -> Finding:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 a broken installation fails in any way it likes
        return Finding(name, "fail", f"import fails: {type(error).__name__}: {' '.join(str(error).split())}", mend)
    return Finding(name, "ok", "import works")


def gpu() -> Finding:
    """The GPU that torch sees; a run without one works, slower."""
    try:
        import torch
    except Exception as error:  # noqa: BLE001 as above
        return Finding("GPU", "fail", f"torch cannot be imported: {error}", INSTALL)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", ", ".join(names))
    hint = "nothing, unless this machine has one: then its driver must fit torch's CUDA " + str(torch.version.cuda)
    return Finding("GPU", "warn", "none that torch can use; the CPU does the work", hint)


def tls() -> Finding:
    """The channels between parties are TLS 1.3 only."""
    if ssl.HAS_TLSv1_3:
        return Finding("TLS 1.3", "ok", ssl.OPENSSL_VERSION)
    return Finding(
        "TLS 1.3", "fail", f"{ssl.OPENSSL_VERSION} has none", "use a Python built with OpenSSL 1.1.1 or newer"
    )


def ports() -> Finding:
    """Can three ports be opened on the loopback interface, and reached?"""
    mend = "allow programs to listen on 127.0.0.1 (firewall, sandbox, limit of open files)"
    listeners: list[socket.socket] = []
    try:
        for _ in range(PORTS):
            listeners.append(socket.create_server(("127.0.0.1", 0)))
            with socket.create_connection(listeners[-1].getsockname(), timeout=2):
                pass
        numbers = ", ".join(str(listener.getsockname()[1]) for listener in listeners)
        return Finding("loopback ports", "ok", f"{numbers} are free and can be reached")
    except OSError as error:
        return Finding("loopback ports", "fail", str(error), mend)
    finally:
        for listener in listeners:
            listener.close()


def memory() -> Finding:
    """Physical memory and cores."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{_gib(total)} and {os.cpu_count()} cores"
    if total >= LEAST_MEMORY:
        return Finding("memory", "ok", detail)
    return Finding("memory", "warn", detail, f"{_gib(LEAST_MEMORY)} are advised: use a smaller training.batch_size")


def disk(folder: Path) -> Finding:
    """Room for runs."""
    free = shutil.disk_usage(_existing(folder)).free
    if free >= LEAST_DISK:
        return Finding("disk", "ok", f"{_gib(free)} free")
    return Finding("disk", "fail", f"{_gib(free)} free", f"make room: {_gib(LEAST_DISK)} are needed for a demo")


def writable(name: str, folder: Path) -> Finding:
    """Can files be made in `folder`, or in the nearest parent that exists?"""
    place = _existing(folder).resolve()
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(name, "fail", f"{place}: {error.strerror}", "choose another folder, or make this one writable")
    return Finding(name, "ok", f"{place} is writable")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
