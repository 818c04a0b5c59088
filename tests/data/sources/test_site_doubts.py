"""Folders of sites whose subjects have numbers of their own."""

import pytest

from vqdist.data.sources.folders import place_volumes
from vqdist.data.sources.site_doubts import find_site_doubts
from vqdist.data.sources.subjects import BY_NAME_OR_FOLDER, SubjectOptions, identify_subjects

SITES = ("London", "Paris")


def doubts(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[str]:
    files = place_volumes(names)
    subjects = identify_subjects(files, options, pictures=False, root_name="source")
    return [problem.found for problem in find_site_doubts(files, subjects)]


@pytest.mark.parametrize("path", ["{}/sub-{}/T1.nii", "{}/sub-{}_T1.nii", "{}/subject{}/anat/T1.nii"])
def test_subjects_in_several_sites(path: str) -> None:
    names = [path.format(site, number) for site in SITES for number in (1, 2)]
    (found,) = doubts(*names)
    assert found.startswith("2 subjects in several folders each, such as sub")
    assert found.endswith("1 in London, Paris, which may be sites")
    assert doubts(*names, options=SubjectOptions(pattern="^[^/]+/[^/_.]+")) == []


@pytest.mark.parametrize("path", ["{}/{}/T1.nii", "{}/{}.nii"])
def test_sites_that_are_taken_for_people(path: str) -> None:
    names = [path.format(site, number) for site in SITES for number in (1, 2)]
    assert doubts(*names) == ["2 folders taken for one person each, such as London with 1, 2 inside"]


@pytest.mark.parametrize(
    "names",
    [
        ("anna/T1.nii", "anna/T2.nii", "bob/T1.nii"),
        ("sub-1/ses-1/T1.nii", "sub-1/ses-2/T1.nii", "sub-2/ses-1/T1.nii", "sub-2/ses-2/T1.nii"),
        ("T1/sub-1.nii", "T1/sub-2.nii", "T2/sub-1.nii", "T2/sub-2.nii"),
        ("100307/1/T1.nii", "100307/2/T1.nii", "100408/1/T1.nii", "100408/2/T1.nii"),
        ("London/sub-1.nii", "London/sub-2.nii", "Paris/sub-3.nii", "Paris/sub-4.nii"),
    ],
)
def test_no_doubt(names: tuple[str, ...]) -> None:
    assert doubts(*names) == []
