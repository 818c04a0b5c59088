"""Subjects: found in names and folders of datasets as people have them, never one person under two names."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from vqdist.data.sources.folders import place_pictures, place_volumes
from vqdist.data.sources.subjects import (
    BY_NAME_OR_FOLDER,
    Subject,
    SubjectOptions,
    describe_subjects,
    identify_subjects,
)
from vqdist.foundation.errors import DataError


def volumes(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[str]:
    found = identify_subjects(place_volumes(names), options, pictures=False, root_name="source")
    return [subject.name for subject in found]


def pictures(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[str]:
    found = identify_subjects(place_pictures(names, Path("source")), options, pictures=True, root_name="source")
    return [subject.name for subject in found]


def cross(template: str, subjects: Sequence[object], others: Sequence[object]) -> tuple[list[str], list[str]]:
    """Return paths with {0} for a subject and {1} for each of the others, and the subject of each path."""
    return (
        [template.format(subject, other) for subject in subjects for other in others],
        [str(subject) for subject in subjects for _ in others],
    )


@pytest.mark.parametrize(
    ("template", "subjects", "others"),
    [
        ("{0}/{1}.nii.gz", (1, 2), ("T1", "T2", "FLAIR")),
        ("{0}/{1}/x.nii.gz", (100307, 100408), ("T1w", "MNINonLinear")),
        ("{0}/T1w/{1}_acpc_dc_restore_brain.nii.gz", (100307, 100408), ("T1w", "T2w")),
        ("{0}/{1}.nii.gz", ("case_00000", "case_00001"), ("imaging", "other")),
        ("{0}/{1}/anat/T1w.nii.gz", ("sub-01", "sub-02"), ("ses-1", "ses-2")),
        ("HGG/{0}/{0}_{1}.nii", ("BraTS20_Training_001", "BraTS20_Training_002"), ("t1", "t1ce")),
        ("{0}_{1}.nii", ("BraTS20_Training_001", "BraTS20_Training_002"), ("t1", "flair")),
        ("{0}-00{1}/{0}-00{1}-t1c.nii", ("BraTS-GLI-00001", "BraTS-GLI-00002"), (0, 1)),
        ("IXI-{1}/{0}-Guys-0828-{1}.nii.gz", ("IXI002", "IXI012"), ("T1", "T2")),
        ("imagesTr/{0}_000{1}.nii.gz", ("BRATS_001", "BRATS_002"), (0, 1)),
        ("study/{0}/{1}.nii", ("anna", "bob"), ("T1", "brain")),
        ("{0}/{1}/x.nii", ("anna", "bob"), (1, 2)),
        ("{0}/{1}/T1.nii", ("anna", "bob"), ("2020-01-31", "20200228")),
        ("{0}/scan_{1}.nii", ("anna", "bob"), (1, 2)),
        ("{1}/{0}.nii.gz", ("001", "002"), ("T1", "T2")),
        ("{0}/mri/{1}.nii.gz", ("bert", "ernie"), ("T1", "orig", "norm")),
        ("{0}/vol{1}.nii.gz", ("anna", "bob"), (1, 2)),
        ("{0}_{1}.nii.gz", ("anna", "bob"), ("T1", "T1_brain", "T1_head")),
        ("{0}_{1}.nii.gz", ("MCI_0001", "AD_0002"), ("bl", "m12")),
        ("{1}_{0}_T1.nii.gz", ("P01", "P02"), ("20190301", "20200511")),
        ("wave{1}/{0}.nii", ("AB1", "AB2"), (1, 2, 3)),
        ("time{1}/{0}.nii", ("P01", "P02"), (1, 2, 3)),
    ],
)
def test_volumes(template: str, subjects: Sequence[object], others: Sequence[object]) -> None:
    paths, expected = cross(template, subjects, others)
    assert volumes(*paths) == expected


@pytest.mark.parametrize(
    ("template", "subjects", "others"),
    [
        ("{0}_{1}.png", ("P061", "P062"), (0, 1)),
        ("ill/{0}_slice{1}.png", ("sub01", "sub02"), (0, 1)),
        ("{0}-slice{1}.png", ("vol3", "vol4"), (11, 12)),
        ("{0}/00{1}.png", ("patient_a", "patient_b"), (0, 1)),
        ("ill/{0}/00{1}.png", ("anna", "bob"), (0, 1)),
        ("ill/{0}/{1}.png", ("anna", "bob"), ("left", "right")),
        ("{0}/x{1}.png", ("P061", "P062"), (0, 1)),
        ("{0}_19960909/{0}_19960909_{1}.tif", ("TCGA_CS_4941", "TCGA_CS_4942"), (1, 2)),
        ("ill/{0}-{1}.png", ("A023", "A024"), (1, 2)),
        ("ill/{0}_z{1}.png", ("left_of_anna", "left_of_bob"), (1, 2)),
        ("{0}_slice_{1}.png", ("001", "002"), (1, 2)),
        ("ill/{0}-slice{1}.png", ("scan1", "scan2"), (1, 2)),
    ],
)
def test_pictures(template: str, subjects: Sequence[object], others: Sequence[object]) -> None:
    paths, expected = cross(template, subjects, others)
    assert pictures(*paths) == expected


def test_pictures_without_any_id_are_subjects_of_their_own() -> None:
    names = [
        "cat/1.png",
        "cat/2.png",
        "dog/1.png",
        "dog/slice_1.png",
        "dog/brain_slice_2.png",
        "n01/n01_1.png",
        "n01/images/n01_2.png",
        "n01/flower 3.jpg",
    ]
    assert pictures(*names) == names


def test_both_sides_of_a_person_are_one_subject() -> None:
    names = ("100_left{0}", "100_right{0}", "101_left{0}")
    assert pictures(*(name.format(".png") for name in names)) == ["100", "100", "101"]
    assert pictures("ill/100_left.png", "healthy/100_right.png", "ill/101_right.png") == ["100", "100", "101"]
    assert volumes(*(name.format(".nii") for name in names)) == ["100", "100", "101"]
    named = SubjectOptions(origin="name")
    assert pictures(*(name.format(".png") for name in names), options=named) == ["100", "100", "101"]
    assert pictures("100_left_slice_1.png", "100_right_slice_1.png") == ["100", "100"]


def test_volumes_without_any_id_have_their_names() -> None:
    assert volumes("colin27_head.nii", "a/001.nii", "a/002.nii", "b/003.nii") == ["colin27_head", "001", "002", "003"]
    assert volumes("T1.nii", "T2.nii") == ["source"] * 2


def test_a_folder_that_decides_for_one_file_decides_for_all_in_it() -> None:
    assert volumes("1/T1.nii", "1/special.nii", "2/T1.nii") == ["1", "1", "2"]


def test_case_is_ignored() -> None:
    assert volumes("Anna/T1.nii", "anna/T2.nii", "Case_7.nii", "case_7_T2.nii") == ["anna", "anna", "case_7", "case_7"]
    names = ["A/1.png", "a/1.png"]
    assert pictures(*names) == names  # files of their own stay apart


def test_a_pattern_overrides_names_and_folders() -> None:
    names = ("sub-01/x_7.png", "sub-02/y_7.png")
    assert pictures(*names, options=SubjectOptions(pattern=r"_(\d)\.")) == ["7", "7"]
    assert pictures(*names, options=SubjectOptions(pattern=r"^.*/[xy]")) == ["sub-01/x", "sub-02/y"]
    message = (
        r"--subject-pattern x: found no subject in 7 of 8 paths: a1, a2, a3, a4, a5, \.\.\. \(7 in all\); expected"
    )
    with pytest.raises(DataError, match=message):
        volumes(*(f"a{number}" for number in range(1, 8)), "x", options=SubjectOptions(pattern="x"))
    with pytest.raises(DataError, match="no subject in 1 of 2"):
        volumes("ab", "a", options=SubjectOptions(pattern="a(b?)"))  # an empty group names nobody


def test_names_only() -> None:
    options = SubjectOptions(origin="name")
    assert pictures("anna_1.png", "anna_2.png", "bob_1.png", "img_1.png", options=options) == [
        "anna",
        "anna",
        "bob",
        "img_1",
    ]
    assert volumes("1/anna_T1.nii", "2/anna_T2.nii", "3/T1.nii", options=options) == ["anna", "anna", "T1"]


def test_folders_only() -> None:
    options = SubjectOptions(origin="folder")
    assert volumes("site1/7/a.nii", "site1/7/b.nii", "site2/8/c.nii", options=options) == ["7", "7", "8"]
    assert volumes("study/sub-1/sub-2.nii", options=options) == ["sub-1"]
    assert volumes("T1/a.nii", "T2/b.nii", options=options) == ["T1", "T2"]
    with pytest.raises(DataError, match=r"1 of 2 files outside the folders of subjects: a\.nii"):
        volumes("a.nii", "anna/b.nii", options=options)


def test_one_line_describes_the_subjects() -> None:
    named = [Subject(f"s{number}", "name") for number in range(4)]
    assert describe_subjects(named) == "subjects: 4 in 4 files, identified by file name: s0, s1, s2, ..."
    mixed = [*named[:1], *named[:1], Subject("anna", "folder"), Subject("x.png", "file", certain=False)]
    assert describe_subjects(mixed) == (
        "subjects: 3 in 4 files, identified by file name (2 files) and folder (1 file); 1 other file one by one,"
        " because no name or folder identifies a person: s0, anna, x.png"
    )
    assert describe_subjects(mixed, ["a", "b", "a", "a"]).endswith(": s0, anna, x.png; 1 of them in several classes")
