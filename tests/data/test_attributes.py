"""The auditor's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_fair.data.attributes import read_attributes
from secure_fair.errors import DataError


def test_an_intersection_is_one_attribute_with_the_product_of_categories(tmp_path: Path) -> None:
    file = tmp_path / "attributes.csv"
    file.write_text("id,Male,Tone\na,no,dark\nb,yes,pale\nc,yes,dark\n")
    categories = {"Male": ("no", "yes"), "Tone": ("pale", "medium", "dark")}
    table = read_attributes(file, ["Male*Tone", "Male"], categories)
    assert table.categories["Male*Tone"][3:] == ("yes*pale", "yes*medium", "yes*dark")
    assert table.codes["Male*Tone"].tolist() == [2, 3, 5]
    assert list(table.codes) == ["Male*Tone", "Male"]
    with pytest.raises(DataError, match="Age"):
        read_attributes(file, ["Male*Age"], categories)
