"""A run's folder and the table it is scored with: what a launcher checks before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

from secure_fair.data.attributes import AttributeTable, read_attributes, read_schema
from secure_fair.data.tables import read_rows, refuse
from secure_fair.errors import RunError, SettingsError


def read_table(file: Path, columns: tuple[str, ...]) -> AttributeTable:
    """The named columns of attributes.csv, with the categories of the schema.json beside it."""
    next(read_rows(file, ("id",), refuse), None)  # a table that is not there is named before what should lie beside it
    schema = read_schema(file.parent / "schema.json")
    if not columns:
        known = ", ".join(schema.attributes)
        raise SettingsError(f"attributes.columns is empty; name at least one attribute of {file}: {known}")
    return read_attributes(file, columns, schema.attributes, schema.person)


def check_run_folder(run: Path, *, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume what is not there or is complete. Raises RunError."""
    if not resume and run.exists():
        raise RunError(f"{run}: exists already; name another folder, or continue an interrupted run with --resume")
    if resume and not run.is_dir():
        raise RunError(f"{run}: no run to resume; leave --resume out to start one")
    if resume and (run / "summary.json").exists():
        raise RunError(f"{run}: this run is complete; name another folder")
