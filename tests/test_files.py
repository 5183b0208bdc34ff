"""Files are whole or not there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from secure_fair.files import replacing, write_json


def test_a_file_that_could_not_be_written_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": math.nan})

    def interrupted() -> None:
        with replacing(file) as partial:
            partial.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]
