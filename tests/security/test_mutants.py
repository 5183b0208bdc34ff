"""Defects planted in a copy of the source: the named test has to fail on each, in the processes that it starts too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("secure_fair", "parties", "benchmarks", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """In `file` the text `old` becomes `new`, and `test` notices."""

    file: str
    old: str
    new: str
    test: str


_LEDGER = "tests/privacy/test_ledger.py"
_STEP_REFUSAL = "tests/security/test_refusals.py::test_a_request_is_refused_whatever_the_attributes"
MUTANTS = {
    "half the noise": Mutant(
        "secure_fair/privacy/accountant.py",
        "sensitivity * math.sqrt(UNIT",
        "0.5 * sensitivity * math.sqrt(UNIT",
        "tests/security/test_noise_that_leaves.py::test_the_noise_follows_the_law_of_its_cost[any moment]",
    ),
    "half the noise of a private adapter": Mutant(
        "secure_fair/training/private.py",
        "noise_scale(cost, REPLACED)",
        "noise_scale(cost, REPLACED / 2)",
        "tests/training/test_private.py::test_every_step_has_the_noise_of_its_account",
    ),
    "half the noise of an audit": Mutant(
        "parties/audit_auditor.py",
        "noised(share.numpy(), self.plan.scale(self.cost))",
        "noised(share.numpy(), self.plan.scale(self.cost) / 2)",
        "tests/parties/test_audit.py::test_the_noise_that_is_sent_has_the_scale_of_its_debit",
    ),
    "noise added as a number, which saturates": Mutant(
        "secure_fair/releases/moment.py",
        "(share.view(np.uint64) + noise.view(np.uint64)).view(np.int64)",
        "np.clip(share.astype(np.float64) + noise, -(2.0**63), 2.0**63 - 1024).astype(np.int64)",
        "tests/releases/test_noise.py::test_the_release_has_the_noise_of_its_account_mod_2_64",
    ),
    "the debit after the answer": Mutant(
        "secure_fair/privacy/ledger.py",
        """        reservation = self.reserve(kind, request, persons, cost, budget, exact=exact)
        if reservation.answer is not None:
            return reservation.answer
        answer = produce()
""",
        """        answer = produce()
        reservation = self.reserve(kind, request, persons, cost, budget, exact=exact)
        if reservation.answer is not None:
            return reservation.answer
""",
        f"{_LEDGER}::test_the_debit_is_durable_before_the_answer_is_made_and_before_it_is_handed_out",
    ),
    "an audit's commitment before its debit": Mutant(
        "parties/audit_auditor.py",
        "        request, budget = self._request(session), self.policy.budget\n",
        """        self._commit(self.table.commitment(self.ledger.derived_key("audit commitment"), columns, self.rows))
        request, budget = self._request(session), self.policy.budget
""",
        "tests/security/test_audit_answers.py::test_who_cannot_debit_does_not_commit_either[exact]",
    ),
    "attribute values in a refusal": Mutant(
        "parties/gradients.py",
        "        _check_step(step, announced, positions, allowed)\n",
        """        try:
            _check_step(step, announced, positions, allowed)
        except RefusedError as error:
            raise RefusedError(f"{error}; they are {onehot[positions].tolist()}") from None
""",
        f"{_STEP_REFUSAL}[a record twice in a step]",
    ),
    "a refusal for one value only": Mutant(
        "parties/gradients.py",
        "        _check_step(step, announced, positions, allowed)\n",
        """        if onehot[0, 0]:
            _check_step(step, announced, positions, allowed)
""",
        f"{_STEP_REFUSAL}[a step outside the set]",
    ),
    "masks used twice": Mutant(
        "secure_fair/mpc/dealing/source.py",
        "RingGenerator(self._seed, self._index)",
        "RingGenerator(self._seed, 0)",
        "tests/mpc/test_secrecy.py::test_masked_table_says_nothing_of_the_attributes",
    ),
    "one mask for two values": Mutant(
        "secure_fair/mpc/dealing/source.py",
        "raise MaskReuseError(",
        "str(",
        "tests/mpc/test_dealing.py::test_a_mask_hides_one_value",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_defect_has_its_place(name: str) -> None:
    """Code moves; a defect that can no longer be planted is found at once, not when the slow test runs."""
    assert (ROOT / MUTANTS[name].file).read_text().count(MUTANTS[name].old) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_defect_is_noticed(name: str, tmp_path: Path) -> None:
    """By an assertion or an error of the test itself; without the defect the same test passes in the same copy."""
    mutant = MUTANTS[name]
    for part in COPIED:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / part)
    assert _passes(tmp_path, mutant.test)
    file = tmp_path / mutant.file
    file.write_text(file.read_text().replace(mutant.old, mutant.new))
    compile(file.read_text(), file, "exec")
    assert not _passes(tmp_path, mutant.test)


def _passes(tree: Path, test: str) -> bool:
    """Whether pytest passes `test` in the tree. It must have been run: any exit but 0 and 1 is an error of ours."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", test],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.returncode == 0
