"""`secure-fair demo`: the whole story on procedural faces."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import click

from secure_fair import settings
from secure_fair.cli import compare, console
from secure_fair.cli.arms_table import print_arms
from secure_fair.errors import RunError
from secure_fair.files import write_json
from secure_fair.sections import MAX_SEED

PATH = click.Path(path_type=Path)
SEED = click.IntRange(0, MAX_SEED - 1)
IMAGES = 8000
DRAWN = "faces.json"  # beside the faces: how they were drawn
# None is the plaintext arm. ERM comes first: what a fair model gives away is measured against it.
ARMS: Mapping[str, tuple[str | None, ...]] = {
    "erm": (None,),
    "orth": (None, "gradient", "moment", "randomized-response"),
}
CORRELATION = 0.93
OVERLAP = 0.57  # of smiles and straight faces: nobody could tell all of them apart
EXPLANATION = f"""\
eq. odds diff.: largest gap between the groups' true or false positive rates; 0 is fair. Who guesses the attribute from
the label alone is right for {CORRELATION:.0%} here. `gradient` has no protection: it is there to equal the plaintext
and to price the secure computation. `moment` and `randomized-response` protect each person's attribute with the epsilon
shown; `moment` if developer and dealer follow the protocol and do not collude."""
GAP = "equalized_odds_difference"
SETTINGS = """\
# Settings of the demo; use it as a start for your own.
[data]
root = "prepared/developer"
image_size = 48
[attributes]
file = "prepared/auditor/attributes.csv"
columns = ["Male"]
[model]
backbone = "demo_vit"
weights = "demo"
[training]
epochs = 3
batch_size = 256
learning_rate = 2e-3
threads = 1
[privacy]
epsilon = 2.0
store_values = true
"""


@click.command(epilog="Example: secure-fair demo --out demo")
@click.option("--out", type=PATH, default=Path("demo"), show_default=True, help="Folder for data, runs and results.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the faces and trainings.")
@console.json_option
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Draw faces with a known bias, train without and with fairness, in plaintext and with secret-shared attributes.

    The developer gets images and labels, the auditor gets attributes, the dealer nothing. The table sets ERM and ORTH
    in plaintext beside secure ORTH under each release, and says what each release disclosed.
    """
    if out.exists() and any(out.iterdir()) and not (out / "settings.toml").exists():
        raise RunError(f"{out}: exists and is not a demo's folder; name another with --out")
    _require_seed(out, seed)
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    file = out / "settings.toml"
    file.write_text(SETTINGS)
    _prepare(out, seed)
    overrides = (f"training.seed={seed}",)
    from parties.comparison import Arm
    from secure_fair.report.page import write

    arms = [Arm(method, release, seed) for method, releases in ARMS.items() for release in releases]
    result = compare.run(settings.load(file, overrides), file, overrides, arms, out / "compare")
    page = write(out / "compare")
    arm = Arm("orth", "moment", seed)
    audited = _audit(settings.load(file, overrides), out / "compare" / "runs" / arm.name, out / "audit")
    if as_json:
        console.print_json(result)
        return
    print_arms(result, "Task Smiling, sensitive attribute Male; test split, where the two are independent")
    click.echo(EXPLANATION)
    click.echo(audited)
    click.echo(f"wrote {out / 'compare' / 'compare.json'}, compare.csv and the training curves beside it")
    click.echo(f"a page to read: {page}")
    click.echo(f"the demo took {time.monotonic() - began:.0f} s")


def _audit(effective: settings.Settings, run: Path, out: Path) -> str:
    """A noised audit of a run's test split; what it found beside what the simulation knows, in words."""
    from parties.audit_simulation import AuditSimulation, simulate_audit

    if not (out / "audit.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        table = effective.audit.model_copy(
            update={"predictions": run / "developer" / "predictions.csv", "split": "test"}
        )
        simulate_audit(AuditSimulation(effective.model_copy(update={"audit": table}), out))
    (column,) = effective.attributes.columns
    report = json.loads((out / "audit.json").read_text())
    found = report["metrics"][column][GAP]
    low, high = report["intervals"][column][GAP]
    true = json.loads((run / "summary.json").read_text())["metrics"][GAP]
    noise = f"the noise of epsilon {report['privacy']['epsilon']:g}"
    return (
        f"audit of `{run.name}`, for which the auditor saw no prediction and the developer no attribute: "
        f"eq. odds diff. {found:.3f} ({low:.3f} to {high:.3f}) from counts with {noise}; without noise {true:.3f}."
    )


def _require_seed(out: Path, seed: int) -> None:
    """Raise RunError where faces or folders that are kept are of another seed, or do not say of which."""
    if not ((out / "faces").exists() or (out / "prepared").exists()):
        return
    try:
        drawn = json.loads((out / DRAWN).read_text())["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{out / DRAWN}: does not say how the faces were drawn; name another --out") from None
    if drawn != seed:
        raise RunError(f"{out / 'faces'} were drawn with seed {drawn}; name another --out")


def _prepare(out: Path, seed: int) -> None:
    """Faces in CelebA's layout, then the two parties' folders; what is there already is kept."""
    from secure_fair.data.drawn import drawn
    from secure_fair.data.faces import FaceSettings
    from secure_fair.data.prepare import PrepareSettings

    write_json(out / DRAWN, {"version": 1, "seed": seed})
    faces = FaceSettings(
        count=IMAGES,
        seed=seed,
        correlation=CORRELATION,
        overlap=OVERLAP,
        balanced_test=True,
        workers=os.cpu_count() or 1,
    )
    chosen = PrepareSettings("Smiling", ("Male",), seed=seed)
    with console.Reporter() as report:
        drawn(out, faces, chosen, report.stage("drawing faces"), report.stage("splitting"))
