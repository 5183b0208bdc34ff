"""The program's shell: help, exit status, one-line errors."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest

from secure_fair.cli import console, main
from secure_fair.errors import DataError, InterruptedRunError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `fail` that raises the exception put into the list."""
    errors: list[BaseException] = []

    @click.command()
    def command() -> None:
        raise errors[0]

    monkeypatch.setattr(sys.modules[__name__], "command", command, raising=False)
    monkeypatch.setitem(main.COMMANDS, "fail", (f"{__name__}:command", "Fails."))
    return errors


def test_every_command_exists_under_its_name_and_has_help_with_an_example() -> None:
    context = click.Context(main.cli)
    for name in main.COMMANDS:
        command = main.cli.get_command(context, name)
        assert command is not None
        leaves = command.commands.values() if isinstance(command, click.Group) else [command]
        for leaf in leaves:
            assert leaf.help, f"{name} {leaf.name} has no help text"
            assert "secure-fair " in (leaf.epilog or command.epilog or leaf.help), (
                f"{name} {leaf.name} shows no example"
            )


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, (_, text) in main.COMMANDS.items():
        assert f"{name} {text}" in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("secure-fair, version 0.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["docter"], "did you mean 'doctor'?"),
        (["zzz"], "no such command 'zzz'"),
        (["doctor", "--nonsense"], "--nonsense"),
        (["config", "init"], "FILE"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DataError("labels.csv, row 3:\n no such image"), 1, "error: labels.csv, row 3: no such image"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            1,
            "error: x: No space left on device; free some space",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (
            InterruptedRunError("stopped at step 7; go on with --resume"),
            130,
            "error: stopped at step 7; go on with --resume",
        ),
    ],
)
def test_an_error_is_one_line_without_a_traceback(
    failing: list[BaseException], error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(error)
    assert main.run(["fail"]) == status
    captured = capsys.readouterr()
    assert captured.err.strip() == line
    assert captured.out == ""


def test_a_defect_asks_for_a_report_in_one_line(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(ZeroDivisionError("division by zero"))
    assert main.run(["fail"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("error: unexpected ZeroDivisionError: division by zero; run again with --debug")


@pytest.mark.parametrize("arguments", [["--debug", "fail"], ["fail", "--debug"]])
def test_debug_shows_the_traceback_before_the_line(
    failing: list[BaseException], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(DataError("broken"))
    assert main.run(arguments) == 1
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.rstrip().endswith("error: broken")


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = "import sys; sys.stdin.readline(); from secure_fair.cli.main import main; main(['config', 'show'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout = None
    _, errors = process.communicate(timeout=150)
    assert (process.returncode, errors) == (1, "")


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "secure_fair", "config", "show", "-c", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no such file" in done.stderr


def test_json_has_null_for_what_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"rate": float("nan"), "bound": [float("inf"), 1.5], "path": Path("a"), 3: True})
    assert "".join(capsys.readouterr().out.split()) == '{"rate":null,"bound":[null,1.5],"path":"a","3":true}'


def test_progress_elsewhere_than_on_a_terminal_is_first_and_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with console.Reporter() as report:
        for step in range(1, 101):
            report("train", step, 100)
        report.line("saved")
        report.stage("audit")(1, 1)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["train: 1/100", "train: 100/100", "saved", "audit: 1/1"]
    assert captured.out == ""


def test_a_table_keeps_its_cells_whole(capsys: pytest.CaptureFixture[str]) -> None:
    wide = "x" * 150
    console.print_table("Results", ["arm", "accuracy"], [["erm [plain]", "0.947"], [wide, "0.9"]])
    shown = capsys.readouterr().out
    assert "erm [plain]" in shown
    assert wide in shown
