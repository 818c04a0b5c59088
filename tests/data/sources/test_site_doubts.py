"""Folders of sites or groups whose subjects have numbers of their own."""

import re
from pathlib import Path

import pytest

from vqdist.data.sources.folders import place_pictures, place_volumes
from vqdist.data.sources.site_doubts import find_site_doubts
from vqdist.data.sources.subjects import BY_NAME_OR_FOLDER, SubjectOptions, identify_subjects
from vqdist.foundation.errors import Problem

SITES = ("London", "Paris")


def problems(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[Problem]:
    pictures = names[0].endswith(".png")
    files = place_pictures(names, Path("source")) if pictures else place_volumes(names)
    subjects = identify_subjects(files, options, pictures=pictures, root_name="source")
    return find_site_doubts(files, subjects, pictures=pictures)


def doubts(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[str]:
    return [problem.found for problem in problems(*names, options=options)]


@pytest.mark.parametrize("path", ["{}/sub-{}/T1.nii", "{}/sub-{}_T1.nii", "{}/subject{}/anat/T1.nii"])
def test_subjects_in_several_sites(path: str) -> None:
    names = [path.format(site, number) for site in SITES for number in (1, 2)]
    (found,) = doubts(*names)
    assert found.startswith("2 subjects in several folders each, such as sub")
    assert found.endswith("1 in London, Paris, which may be sites or groups")
    assert doubts(*names, options=SubjectOptions(pattern="^[^/]+/[^/_.]+")) == []


@pytest.mark.parametrize("path", ["{}/{}/T1.nii", "{}/{}.nii", "{}/S{}.nii"])
def test_sites_that_are_taken_for_people(path: str) -> None:
    names = [path.format(site, number) for site in SITES for number in (1, 2)]
    (found,) = doubts(*names)
    assert re.fullmatch(r"2 folders taken for one person each, such as London with S?1, S?2 inside", found)


@pytest.mark.parametrize(
    ("template", "groups", "subjects"),
    [
        ("{}/{}/T1.nii.gz", ("siteA", "siteB"), ("001", "002")),
        ("{}/{}.nii.gz", ("site-1", "site-2"), ("001",)),
        ("{}/{}_T1w.nii.gz", ("hospital_1", "hospital_2"), ("P01", "P02")),
        ("train/{}/{}/T1.nii", ("center1", "center2"), ("001", "002")),
        ("{}/{}/anat/T1.nii.gz", ("siteA", "siteB"), ("sub-01",)),
        ("{}/{}_T1.nii.gz", ("siteA", "siteB"), ("case_1", "case_12")),
        ("{}/{}.nii", ("AD", "CN"), ("001", "002")),
        ("{}/{}_slice_3.png", ("siteA", "siteB"), ("001",)),
        ("{}/{}/slice_3.png", ("siteA", "siteB"), ("001", "002")),
        ("AD/{}/{}_slice_3.png", ("siteA", "siteB"), ("001", "002")),
        ("{}/{}_7.png", ("siteA", "siteB"), ("P061", "P062")),
        ("{}/{}_slice_3.png", ("AD", "CN"), ("001", "002")),
        ("{}/{}/3.png", SITES, ("001", "002")),
    ],
)
def test_equal_numbers_in_several_groups(template: str, groups: tuple[str, ...], subjects: tuple[str, ...]) -> None:
    names = [template.format(group, subject) for group in groups for subject in subjects]
    (problem,) = problems(*names)
    many = "1 subject in several folders," if len(subjects) == 1 else "2 subjects in several folders each, such as"
    assert problem.found == f"{many} {subjects[0]} in {', '.join(groups)}, which may be sites or groups"
    pattern = problem.expected.partition("--subject-pattern '")[2].removesuffix("'")
    options = SubjectOptions(pattern=pattern)  # the remedy tells all people apart
    found = identify_subjects(place_volumes(names), options, pictures=False, root_name="source")
    assert [subject.name for subject in found] == [f"{group}/{subject}" for group in groups for subject in subjects]
    assert doubts(*names, options=options) == []


def test_without_a_pattern_for_all_files_the_user_writes_one() -> None:
    (problem,) = problems("siteA/T1/001.nii", "siteB/T1/001.nii")
    assert problem.expected.endswith("pass --subject-pattern REGEX")


@pytest.mark.parametrize(
    "names",
    [
        ("anna/T1.nii", "anna/T2.nii", "bob/T1.nii"),
        ("sub-1/ses-1/T1.nii", "sub-1/ses-2/T1.nii", "sub-2/ses-1/T1.nii", "sub-2/ses-2/T1.nii"),
        ("T1/sub-1.nii", "T1/sub-2.nii", "T2/sub-1.nii", "T2/sub-2.nii"),
        ("100307/1/T1.nii", "100307/2/T1.nii", "100408/1/T1.nii", "100408/2/T1.nii"),
        ("London/sub-1.nii", "London/sub-2.nii", "Paris/sub-3.nii", "Paris/sub-4.nii"),
        ("siteA/001.nii", "siteA/001_T1.nii", "siteB/002.nii"),
        ("train/siteA/001.nii", "train/siteA/002.nii", "test/siteB/003.nii"),
        ("disc1/OAS1_0001_MR1.nii", "disc2/OAS1_0001_MR2.nii"),
        ("MCI/002_S_0295.nii", "AD/002_S_0295.nii"),
        ("siteA/100307.nii", "siteB/100307.nii"),
        ("baseline/001.nii", "followup/001.nii"),
        ("ses-1/001/T1.nii", "ses-2/001/T1.nii"),
        ("baseline/001_slice_3.png", "followup/001_slice_3.png"),
        ("T1/001_slice_3.png", "T2/001_slice_3.png"),
        ("tumour/001_slice_3.png", "tumour/001_slice_4.png", "normal/001_slice_9.png"),
        ("happy/anna/1.png", "sad/anna/1.png"),
        ("happy/sub-1_1.png", "sad/sub-1_1.png"),
    ],
)
def test_no_doubt(names: tuple[str, ...]) -> None:
    assert doubts(*names) == []
