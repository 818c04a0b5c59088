"""Parsing of file names: natural order, subjects, slice numbers, splits, and keys."""

import os
from pathlib import PurePosixPath

import pytest

from vqdist.data.sources.file_names import (
    build_keys,
    natural_key,
    parse_local_subject,
    parse_slice_number,
    parse_split,
    parse_split_folder,
    parse_subject,
    stem,
)


def test_natural_order_compares_numbers_by_value() -> None:
    names = ["s10", "s9", "a", "s1b", "2", "10", "s009a"]
    assert sorted(names, key=natural_key) == ["2", "10", "a", "s1b", "s9", "s009a", "s10"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b.png", "b"),
        ("a/b.c.png", "b.c"),
        ("b.nii", "b"),
        ("b.nii.gz", "b"),
        ("b.NII.gz", "b"),
        ("case_1_slice_2.nii.png", "case_1_slice_2"),
        ("b", "b"),
    ],
)
def test_stems_are_without_double_extensions(path: str, expected: str) -> None:
    assert stem(PurePosixPath(path)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("OAS1_0101_MR2_x.png", "OAS1_0101"),
        ("sub-01/anat/sub-02_T1w.nii", "sub-02"),
        ("a/136_S_0184.png", "136_S_0184"),
        ("1136_S_0184.png", None),
        ("case_002_slice_9.nii.png", "case_002"),
        ("case_002.png", "case_002"),
        ("case_00012/imaging.nii.gz", "case_00012"),
        ("patient-17/1.png", "patient-17"),
        ("subject3.png", "subject3"),
        ("outpatient3.png", None),
        ("brain.png", None),
        ("OAS30001_MR_d0129_T1w.nii.gz", "OAS30001"),
        ("IXI002-Guys-0828-T1.nii.gz", "IXI002"),
        ("IXI0021.nii.gz", None),
        ("BraTS-GLI-00001-001/BraTS-GLI-00001-001-t1c.nii.gz", "BraTS-GLI-00001"),
        ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif", "TCGA_CS_4941"),
        ("sub01_slice3.png", "sub01"),
        ("patient_a/001.png", "patient_a"),
        ("patient_after/001.png", None),
        ("P061_0.png", None),
    ],
)
def test_subjects(path: str, expected: str | None) -> None:
    assert parse_subject(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("Case_001_Slice_0.nii.PNG", "case_001"),
        ("PATIENT-7.nii", "patient-7"),
        ("oas1_0101_mr1.nii", "OAS1_0101"),
        ("136_s_0184.nii", "136_S_0184"),
        ("SUB-A01_T1w.nii", "sub-A01"),
        ("ixi002-guys-0828-t1.nii", "IXI002"),
        ("brats-gli-00001-001-t1c.nii", "BraTS-GLI-00001"),
    ],
)
def test_case_is_ignored_in_subjects(path: str, expected: str) -> None:
    assert parse_subject(path) == expected
    assert parse_subject(expected) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("vol3-slice12.png", "vol3"),
        ("a/Volume-0.nii", "volume-0"),
        ("p061_0.png", "P061"),
        ("a/S01.native.nii", "S01"),
        ("IMG_P061.png", None),
        ("P061b.png", None),
        ("brain.png", None),
    ],
)
def test_local_subjects(path: str, expected: str | None) -> None:
    assert parse_local_subject(path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x_slice_007.png", 7),
        ("Case_001_Slice_4.nii.PNG", 4),
        ("slice-1_slice12.png", 12),
        ("slice_1234567.png", None),
        ("x7.png", None),
    ],
)
def test_slice_numbers(name: str, expected: int | None) -> None:
    assert parse_slice_number(name) == expected


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("train", "train"),
        ("Val", "validate"),
        ("keras_png_slices_test", "test"),
        ("testing", "test"),
        ("testament", None),
        ("train_extra", None),
        ("test_images", "test"),
        ("Training_Set", "train"),
        ("valdata", "validate"),
        ("test_tube", None),
    ],
)
def test_splits(folder: str, expected: str | None) -> None:
    assert parse_split(folder) == expected


def test_split_folders_have_no_other_words() -> None:
    assert parse_split_folder("images-train") == "train"
    assert parse_split_folder("keras_png_slices_test") is None


def test_keys_are_readable_and_unique() -> None:
    keys = build_keys(["a.b/c.d", "a_b-c_d", "A_b-c_d", "é", "x" * 300, "x" * 300 + "y"])
    assert keys[0] == "a_b-c_d"
    assert len({key.lower() for key in keys}) == 6
    assert all(key.isascii() and "." not in key and "/" not in key and len(key) <= 90 for key in keys)
    assert build_keys(["plain"]) == ["plain"]
    repeated = build_keys(["a/1"] * 4)
    assert repeated[0] == "a-1"
    assert len(set(repeated)) == 4


def test_names_that_are_not_utf_8_have_keys() -> None:
    names = [os.fsdecode(name) for name in (b"Ma\xdfe", b"Ma\xe4e", b"\xff")]
    keys = build_keys(names)
    assert keys[0] == "Ma_e"
    assert len({key.lower() for key in keys}) == 3
    assert all(key.isascii() for key in keys)
