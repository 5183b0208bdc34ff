"""One party of an audit as a process that has imported everything before it is measured; Linux only.

python -m benchmarks.audit.party FOLDER ROLE ARGUMENTS...: waits in FOLDER until all three are as far, runs
`secure-fair ARGUMENTS`, and writes FOLDER/ROLE.json: memory after the imports and its peak, in MiB.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from secure_fair.cli.main import run

MODULES = {
    "developer": ("parties.audit_developer", "secure_fair.releases.noise", "pyarrow.parquet", "opendp.measurements"),
    "auditor": ("parties.audit_auditor", "secure_fair.releases.noise", "pyarrow.parquet", "opendp.measurements"),
    "dealer": ("parties.dealer",),
}
WAIT_SECONDS = 120.0


def main(folder: Path, role: str, arguments: list[str]) -> int:
    """Import, wait for the others, run."""
    for module in ("secure_fair.cli.audit", "secure_fair.cli.party", *MODULES[role]):
        importlib.import_module(module)
    imported = _mebibytes("VmRSS")
    (folder / f"{role}.ready").touch()
    deadline = time.monotonic() + WAIT_SECONDS
    while not all((folder / f"{each}.ready").exists() for each in MODULES):
        if time.monotonic() > deadline:
            raise TimeoutError("another party did not start")
        time.sleep(0.01)
    status = run(arguments)
    (folder / f"{role}.json").write_text(json.dumps({"imported": imported, "peak": _mebibytes("VmHWM")}))
    return status


def _mebibytes(field: str) -> float:
    """VmRSS: now; VmHWM: the most since this program began. getrusage would count what its launcher had, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 2**10
    raise LookupError(field)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
