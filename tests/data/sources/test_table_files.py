"""Tables as text: encodings, delimiters, blank rows, and files that are no tables."""

from pathlib import Path

import pytest

from vqdist.data.sources.table_files import read_table
from vqdist.foundation.errors import DataError

ROWS = (("s1", "70"), ("s2", "n/a"))


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.csv", "subject,age\ns1,70\ns2,n/a\n", "utf-8"),
        ("bom.csv", "subject,age\r\ns1,70\r\ns2,n/a\r\n", "utf-8-sig"),
        ("utf16.csv", "subject;age\ns1;70\ns2;n/a\n", "utf-16"),
        ("a.tsv", "subject\tage\ns1\t70\ns2\tn/a\n", "utf-8"),
        ("semicolon.csv", " subject ; age \n\n s1 ; 70 \n;\ns2;n/a", "utf-8"),
        ("quoted.csv", '"subject", "age"\n"s1", "70"\n"s2", "n/a"\n', "utf-8"),
        ("short.csv", "subject,age,\ns1,70,\ns2,n/a\n", "utf-8"),
    ],
)
def test_the_same_table_in_many_spellings(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    table = read_table(write(tmp_path / name, text, encoding))
    assert table.columns == ("subject", "age")
    assert tuple(cells for _, cells in table.rows) == ROWS
    assert table.column("age") == ["70", ""]


def test_latin_1_and_line_numbers(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "Größe,id\n\n180,Müller\n", "latin-1"))
    assert table.columns == ("Größe", "id")
    assert table.rows == ((3, ("180", "Müller")),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "0 rows"),
        ("subject,age\n", "1 row"),
        ("subject,age,Age\ns1,70,70\n", "Age, age twice"),
        ("subject,age\ns1,70,3\n", "1 row with more cells than the 2 titles, such as line 2"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(DataError, match=f"found {found}"):
        read_table(write(tmp_path / "a.csv", text))


def test_other_files_than_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"a\.png: found a name that ends in '\.png'; expected a file"):
        read_table(write(tmp_path / "a.png", "subject,age\ns1,70\n"))
    with pytest.raises(DataError, match="found a folder"):
        read_table(tmp_path)
    pytest.importorskip("openpyxl")
    with pytest.raises(DataError, match="no workbook"):
        read_table(write(tmp_path / "a.xlsx", "subject,age\n"))


def test_a_workbook(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["subject", "age", "score"], [12, 70.0, 0.5], ["s2", None, 1.25]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert [cells for _, cells in read_table(tmp_path / "a.xlsx").rows] == [("12", "70", "0.5"), ("s2", "", "1.25")]
