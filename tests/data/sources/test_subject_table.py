"""Rows of a table find their subjects and sessions, whatever the usual faults of a table made by hand."""

from pathlib import Path

import pytest

from vqdist.data.sources.source import Source, SourceFile
from vqdist.data.sources.subject_table import RowKey, TableOptions, attach_oasis_files, attach_table
from vqdist.foundation.errors import DataError


def build_source(*files: tuple[str, str], layout: str = "nifti", passed_over: tuple[str, ...] = ()) -> Source:
    """Build a source of files (path, subject)."""
    found = tuple(SourceFile(path, subject, key=str(number)) for number, (path, subject) in enumerate(files))
    return Source(layout, found, 1, (), passed_over, lambda file: [])


def attach(tmp_path: Path, text: str, source: Source, *columns: str, key: str | None = None) -> list[dict]:
    (tmp_path / "people.csv").write_text(text)
    found = attach_table(source, TableOptions(tmp_path / "people.csv", key, columns))
    return [dict(file.attributes) for file in found.files]


BIDS = build_source(
    ("sub-01/ses-1/sub-01_ses-1_T1w.nii.gz", "sub-01"),
    ("sub-01/ses-2/sub-01_ses-2_T1w.nii.gz", "sub-01"),
    ("sub-02/sub-02_T1w.nii.gz", "sub-02"),
)


def test_rows_of_subjects_apply_to_all_their_sessions(tmp_path: Path) -> None:
    found = attach(tmp_path, "participant_id,age,sex\nsub-01,70,F\nsub-02,60,M\n", BIDS)
    assert found == [{"age": 70.0, "sex": "F"}] * 2 + [{"age": 60.0, "sex": "M"}]


@pytest.mark.parametrize(
    "rows",
    [
        "participant_id,session_id,age\nsub-01,ses-1,70\nsub-01,ses-2,72\n02,,60\n",
        "ID,age\n01_ses-1,70\n01_SES-2,72\n2,60\n",
    ],
)
def test_rows_of_sessions_apply_to_their_files(tmp_path: Path, rows: str) -> None:
    assert attach(tmp_path, rows, BIDS) == [{"age": 70.0}, {"age": 72.0}, {"age": 60.0}]


@pytest.mark.parametrize(
    ("row", "file"),
    [
        ("OAS1_0001_MR1", RowKey("oas1_0001", "mr1")),
        ("oas1_0001_mr2", RowKey("oas1_0001", "mr2")),
        ("sub-012_ses-01", RowKey("12", "1")),
        ("012", RowKey("12")),
        ("12.0", RowKey("12")),
        (" Sub-A7 ", RowKey("a7")),
        ("ses1", RowKey("", "1")),
        ("MR_12", RowKey("mr_12")),
    ],
)
def test_ids_in_many_spellings(row: str, file: RowKey) -> None:
    assert RowKey.parse(row) == file


def test_an_oasis_table_of_400_rows_with_the_usual_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spaces, a byte order mark, decimal commas, missing cells, MR1 and MR2, upper and lower case, surplus rows."""
    source = build_source(
        *((f"disc1/OAS1_{number:04d}_MR1/T88_111/a.hdr", f"OAS1_{number:04d}") for number in range(1, 391)),
        ("disc1/OAS1_0005_MR2/T88_111/a.hdr", "OAS1_0005"),
        layout="oasis1",
    )
    lines = ["ID; M/F ;Hand;Age;CDR;nWBV"]
    for number in range(1, 400):
        name = f"OAS1_{number:04d}_MR1"
        name = name.lower() if number % 7 == 0 else f" {name} " if number % 5 == 0 else name
        sex = ("F", "f ", "M", "m")[number % 4]
        cdr = "" if number % 3 else ("0", "0,5", "1", "2")[number % 4]
        lines.append(f"{name};{sex};R;{20 + number % 70};{cdr};0,{500 + number}")
    lines.append("OAS1_0005_MR2;F;R;26;N/A;0,8")
    path = tmp_path / "oasis.csv"
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    found = attach_table(source, TableOptions(path, None, ("age", "sex", "cdr", "nwbv")))
    assert found.attribute_kinds == {"age": "number", "sex": "category", "cdr": "number", "nwbv": "number"}
    for number, file in enumerate(found.files[:390], start=1):
        expected = {"age": 20.0 + number % 70, "sex": "FFMM"[number % 4], "nwbv": (500 + number) / 1000}
        if number % 3 == 0:
            expected["cdr"] = (0.0, 0.5, 1.0, 2.0)[number % 4]
        assert dict(file.attributes) == expected
    assert dict(found.files[390].attributes) == {"age": 26.0, "sex": "F", "nwbv": 0.8}
    said = capsys.readouterr().err
    assert "oasis.csv: 400 rows by ID; attributes: age (number), sex (category), cdr (number), nwbv (number)" in said
    assert "rows for 390 of 390 subjects; rows of other subjects: OAS1_0391_MR1, oas1_0392_mr1, OAS1_0393_MR1" in said
    assert "cdr unknown: OAS1_0001, OAS1_0002, OAS1_0004, OAS1_0005, OAS1_0007, ... (260 in all)" in said


def test_what_is_not_matched_is_listed_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = attach(tmp_path, "ID,age,weight\nsub-02,60,80\nsub-02,60,80\nsub-09,50,70\nsub-07,,60\n", BIDS)
    assert found == [{}, {}, {"age": 60.0, "weight": 80.0}]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "rows for" in line]
    assert "rows for 1 of 2 subjects; no row, so all unknown: sub-01" in line
    assert "rows of other subjects: sub-09, sub-07" in line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("age,weight\n70,80\n", "no column that names the subject; expected a column such as subject"),
        ("ID,age\nx1,70\nx2,80\n", "no row of a subject of the source: rows x1, x2; subjects sub-01, sub-02"),
        ("ID,age\n01,70\n02,60\n01,71\n", "1 subject with several rows of different values: lines 2 and 4"),
        ("ID,age\n01,70\n02_ses-1,60\n02_ses-2,61\n", "rows of sessions 1, 2 of sub-02, and sub-02/sub-02_T1w.nii.gz"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DataError) as error:
        attach(tmp_path, text, BIDS)
    assert named in str(error.value)


CASES = build_source(*((f"case_{number:03d}_slice_3.png", f"case_{number:03d}") for number in (61, 62)))


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (
            ("OAS1_0061_MR1", "OAS1_0062_MR1"),
            "name the rows case_061, case_062, if they are",
        ),
        (
            ("sub-062", "sub-061", "sub-007"),
            "name the rows case_062, case_061, if they are",
        ),
        (("61", "61"), "name the rows case_061, if they are"),
        (("OAS1_0061", "OAS2_0061"), ""),  # two people of the same number
        (("sub-061", "sub-07"), ""),
        (("sub-a", "sub-b"), ""),
    ],
)
def test_rows_of_other_names_with_the_same_numbers(tmp_path: Path, rows: tuple[str, ...], advice: str) -> None:
    with pytest.raises(DataError, match="no row of a subject of the source") as error:
        attach(tmp_path, "\n".join(["ID,age", *(f"{row},70" for row in rows)]), CASES)
    assert advice in str(error.value)
    assert bool(advice) == ("the numbers agree" in str(error.value))


def test_the_key_is_the_column_that_names_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = build_source(("case_040_slice_3.png", "case_040"), ("case_041_slice_3.png", "case_041"))
    text = "case,subject,session,age\ncase_040,OAS1_0040,MR1,38\ncase_041,OAS1_0041,MR1,40\n"
    assert attach(tmp_path, text, source) == [{"age": 38.0}, {"age": 40.0}]
    said = capsys.readouterr().err
    assert "2 rows by case; attributes: age (number); not used: subject" in said
    with pytest.raises(DataError, match="no row of a subject"):
        attach(tmp_path, text, source, key="subject")
    with pytest.raises(DataError, match="--table-key name: found no such column"):
        attach(tmp_path, text, source, key="name")


def test_a_column_of_notes_is_used_only_if_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"sub-{number:02d}" for number in range(12)]
    source = build_source(*((f"{name}.nii.gz", name) for name in names))
    text = "ID,age,note,site\n" + "".join(
        f"{name},{50 + number},seen on day {number},{'AB'[number % 2]}\n" for number, name in enumerate(names)
    )
    assert attach(tmp_path, text, source)[1] == {"age": 51.0, "site": "B"}
    said = capsys.readouterr().err
    assert "12 rows by ID; attributes: age (number), site (category)\n" in said
    assert "not used as conditions: note (12 different values); values that differ between most of the 12 subj" in said
    assert attach(tmp_path, text, source, "age", "note")[1] == {"age": 51.0, "note": "seen on day 1"}
    assert "not used" not in capsys.readouterr().err


def test_the_text_files_of_the_oasis_discs_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "disc1" / "OAS1_0001_MR1"
    folder.mkdir(parents=True)
    text = "SESSION ID:  OAS1_0001_MR1\n\nAGE:         74\nM/F:         Female\nHAND:        Right\nEDUC:        2\n"
    text += (
        "SES:          3\nCDR:          0\nMMSE:        29\neTIV:        1344\nASF:         1.306\nnWBV:        0.743\n"
    )
    text += "\n\nSCAN NUMBER:    mpr-1\nTYPE:           MPRAGE\n"
    (folder / "OAS1_0001_MR1.txt").write_text(text)
    names = ("disc1/OAS1_0001_MR1/OAS1_0001_MR1.txt", "disc1/readme.txt")
    files = [("disc1/OAS1_0001_MR1/T88_111/a.hdr", "OAS1_0001"), ("disc1/OAS1_0002_MR1/T88_111/a.hdr", "OAS1_0002")]
    source = attach_oasis_files(build_source(*files, layout="oasis1", passed_over=names), tmp_path)
    found = dict(source.files[0].attributes)
    assert (found["age"], found["sex"], found["etiv"], found["cdr"]) == (74.0, "F", 1344.0, "0")
    assert dict(source.files[1].attributes) == {}
    assert attach_oasis_files(build_source(*files, layout="oasis1"), tmp_path).attribute_kinds == {}
