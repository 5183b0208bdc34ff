"""`secure-fair doctor`: it passes where the tests pass, and a failing line says what to mend."""

from __future__ import annotations

import json
import shutil
import ssl
import sys
from pathlib import Path

import pytest

from secure_fair.cli import doctor, main


def test_this_environment_is_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main.run(["doctor", "--out", str(tmp_path / "not" / "yet"), "--json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    failing = [finding for finding in findings if finding["status"] == "fail"]
    assert failing == []
    assert status == 0
    names = {finding["name"] for finding in findings}
    assert {"Python", "torch", "crypten", "CrypTen", "GPU", "loopback ports", "disk", "output folder"} <= names
    assert list(tmp_path.iterdir()) == []


def test_every_line_that_is_not_ok_says_what_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK", shutil.disk_usage(tmp_path).total + 1)
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 2**60)
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert main.run(["doctor", "--out", str(tmp_path), "--json"]) == 1
    captured = capsys.readouterr()
    findings = {finding["name"]: finding for finding in json.loads(captured.out)["findings"]}
    failing = {name for name, finding in findings.items() if finding["status"] == "fail"}
    assert failing == {"torch and torchvision", "TLS 1.3", "disk"}
    assert findings["memory"]["status"] == "warn"
    assert all(finding["mend"] for finding in findings.values() if finding["status"] != "ok")
    assert captured.err.count("\n") == 1
    assert all(name in captured.err for name in failing)


def test_a_version_out_of_range_fails_with_the_range() -> None:
    assert doctor.judge("torch", "2.15.0", ">=2.11,<2.16").status == "ok"
    old = doctor.judge("torch", "2.10.1", ">=2.11,<2.16")
    assert old.status == "fail"
    assert ">=2.11,<2.16" in old.detail
    assert "pip install" in old.mend


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    assert doctor.writable("output folder", tmp_path / "new").status == "ok"
    finding = doctor.writable("output folder", Path("/proc/self"))  # nobody can make a file there, root included
    assert finding.status == "fail"
    assert finding.mend


def test_plain_lines_carry_the_mend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    assert main.run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("fail  TLS 1.3"))
    assert lines[at + 1].strip() == "mend: use a Python built with OpenSSL 1.1.1 or newer"
