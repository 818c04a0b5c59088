"""Columns as attributes: kinds, values, and cells that do not fit."""

import pytest

from vqdist.data.sources.table_columns import Column, ColumnRequest, find_identifying_columns, read_columns
from vqdist.data.sources.table_files import Table
from vqdist.foundation.errors import DataError


def build(**columns: list[str]) -> Table:
    rows = zip(*columns.values(), strict=True)
    return Table("people.csv", tuple(columns), tuple((number, row) for number, row in enumerate(rows, start=2)))


def read(table: Table, *requests: str) -> dict[str, Column]:
    return {column.name: column for column in read_columns(table, list(map(ColumnRequest.parse, requests)), without=[])}


def test_kinds_are_inferred_and_overridden() -> None:
    cells = {
        "age": ["70", "65.5", "80"],
        "CDR": ["0", "0.50", "0.5"],
        "hand": ["R", "L", "r"],
        "group": ["1", "2", "2"],
    }
    found = read(build(**cells))
    assert {name: (column.kind, column.values) for name, column in found.items()} == {
        "age": ("number", (70.0, 65.5, 80.0)),
        "cdr": ("number", (0.0, 0.5, 0.5)),
        "hand": ("category", ("R", "L", "R")),
        "group": ("category", ("1", "2", "2")),
    }
    found = read(build(**cells), "age:category", "CDR:category", "group:number")
    assert [(column.kind, column.values) for column in found.values()] == [
        ("category", ("70", "65.5", "80")),
        ("category", ("0", "0.5", "0.5")),
        ("number", (1.0, 2.0, 2.0)),
    ]


def test_decimal_commas_are_read_and_ambiguous_ones_refused() -> None:
    assert read(build(age=["70,5", "65", "8,25"]))["age"].values == (70.5, 65.0, 8.25)
    with pytest.raises(DataError, match=r"column volume: found numbers such as 1,344; expected a decimal point"):
        read(build(volume=["1,344", "1,501", "1,622"]))


@pytest.mark.parametrize("cells", [["F", "m", "f"], ["Female", "male", "F"], ["FEMALE", "M", "female"]])
@pytest.mark.parametrize("title", ["sex", "M/F", "Gender"])
def test_sex_has_one_name_and_one_spelling(title: str, cells: list[str]) -> None:
    assert read(build(**{title: cells}))["sex"].values == ("F", "M", "F")


def test_missing_cells_are_unknown_and_empty_columns_left_out() -> None:
    found = read(build(age=["70", "", "N/A", "50", "60"], mmse=["", "-", "na", "", ""]))
    assert list(found) == ["age"]
    assert found["age"].values == (70.0, None, None, 50.0, 60.0)
    with pytest.raises(DataError, match="column mmse: found only missing values"):
        read(build(age=["70"], mmse=[""]), "mmse")


def test_the_split_and_columns_of_one_value_are_left_out_unless_asked_for() -> None:
    table = build(age=["70", "50"], split=["train", "test"], slices=["32", "32"], licence=["CC BY", ""])
    assert list(read(table)) == ["age", "licence"]  # one known value may be the only one that is known
    assert list(read(table, "split", "slices")) == ["split", "slices"]


def test_text_of_many_kinds_is_no_attribute_unless_asked_for() -> None:
    names = [f"person {number}" for number in range(100)]
    assert read(build(name=names)) == {}
    with pytest.raises(DataError, match="column name: found 100 different categories; expected at most 64"):
        read(build(name=names), "name")


def test_columns_that_identify_people_are_found() -> None:
    people = [f"p{number}" for number in range(12)]
    table = build(
        note=[f"seen by {name}" for name in people[:9]] + ["", "well", "well"],
        site=["A", "B", "C", "D", "E", "F"] * 2,
        age=[str(50 + number) for number in range(12)],
        scan_id=[str(1000 + number) for number in range(12)],
        subject=people,
    )
    assert find_identifying_columns(table, people, without=[]) == {"note": 10, "scan_id": 12}
    assert find_identifying_columns(table, people, without=["note"]) == {"scan_id": 12}
    # Two sessions of each of 6 people: a text of each person identifies it, though half of the rows have another one.
    repeated = build(note=[f"seen by {name}" for name in people[:6]] * 2)
    assert find_identifying_columns(repeated, people[:6] * 2, without=[]) == {"note": 6}
    assert find_identifying_columns(build(note=people[:5]), people[:5], without=[]) == {}


def test_every_problem_is_named_together() -> None:
    table = build(age=["70", "old", "60"], label=["1", "2", "3"])
    with pytest.raises(DataError) as error:
        read(table, "age:number", "weight", "label")
    assert [str(problem) for problem in error.value.problems] == [
        "people.csv, column age: found 1 cells of text: 'old' in line 3; expected a number, or an empty cell for an "
        "unknown value; or --columns NAME:category",
        "--columns weight: found no such column in people.csv; expected a column that can be an attribute: age",
        "--columns label: found no such column in people.csv; expected a column that can be an attribute: age",
    ]
