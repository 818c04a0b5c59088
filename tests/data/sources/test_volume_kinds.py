"""Subjects with several kinds of volumes."""

import pytest

from vqdist.data.sources.file_selection import find_masks, select_included
from vqdist.data.sources.folders import place_volumes
from vqdist.data.sources.subjects import BY_NAME_OR_FOLDER, identify_subjects
from vqdist.data.sources.volume_kinds import find_kind_doubts


def doubts(*names: str, include: tuple[str, ...] = ()) -> list[str]:
    files = place_volumes(names)
    subjects = identify_subjects(files, BY_NAME_OR_FOLDER, pictures=False, root_name="source")
    return [str(problem) for problem in find_kind_doubts(files, subjects, include)]


def cross(template: str, others: tuple[str, ...], subjects: tuple[str, ...] = ("01", "02", "03")) -> list[str]:
    return [template.format(subject, other) for subject in subjects for other in others]


def message(kinds: str, pattern: str, subjects: str = "3 of 3") -> str:
    choice = f"pass --include '{pattern}' to take one, or a pattern for each to take several"
    found = f"several kinds of volumes ({kinds}) in {subjects} subjects"
    return f"volumes: found {found}; expected one kind per subject; {choice}"


@pytest.mark.parametrize(
    ("template", "others", "kinds", "pattern"),
    [
        ("{0}/{1}.nii.gz", ("T1", "T2"), "T1, T2", "*T1*"),
        ("sub-{0}/anat/sub-{0}_{1}.nii.gz", ("T1w", "T2w", "FLAIR"), "FLAIR, T1w, T2w", "*T1w*"),
        ("BraTS-GLI-000{0}-000/BraTS-GLI-000{0}-000-{1}.nii", ("t1", "t1ce"), "t1, t1ce", "*t1.*"),
        ("{0}/{1}/scan.nii", ("T1", "T2"), "T1, T2", "**/T1/*"),
        ("imagesTr/B_0{0}{1}.nii.gz", ("_0000", "_0001"), "_0000, _0001", "*_0000*"),
        ("OAS1_00{0}_MR1_{1}.nii", ("brain", "head"), "brain, head", "*brain*"),
        ("{0}/{1}.nii", ("T1", "T1_brain"), "brain, T1", "*T1.*"),
        ("sub{0}/{1}sub{0}.nii", ("smwc1", "w"), "smwc1sub, wsub", "*wsub*"),
    ],
)
def test_several_kinds(template: str, others: tuple[str, ...], kinds: str, pattern: str) -> None:
    assert doubts(*cross(template, others)) == [message(kinds, pattern)]


@pytest.mark.parametrize(
    "names",
    [
        cross("sub-{0}/ses-{1}/anat/sub-{0}_ses-{1}_T1w.nii.gz", ("pre", "post")),
        cross("sub-{0}/anat/sub-{0}_run-{1}_T1w.nii.gz", ("1", "2")),
        cross("OAS1_00{0}_MR{1}.nii", ("1", "2")),
        cross("002_S_02{0}_{1}.nii", ("bl", "m12")),
        cross("OAS2_00{0}_MR1/mpr-{1}.nii", ("1", "2")),
        cross("{0}/{0}_{1}_T1.nii", ("20190304", "2020-01-02")),
        cross("{0}/T1_S1{1}_I9{1}.nii", ("17", "28")),
        ["anna/fa8e.nii", "anna/b9c.nii", "bob/dd1.nii", "bob/c4a.nii"],
        ["01/T1.nii", "02/T1.nii"],
    ],
)
def test_several_volumes_of_one_kind(names: list[str]) -> None:
    assert doubts(*names) == []


FMRIPREP = (
    *("desc-preproc_T1w", "desc-brain_mask", "dseg", "label-GM_probseg", "label-WM_probseg"),
    *(f"space-MNI152NLin2009cAsym_{name}" for name in ("desc-preproc_T1w", "desc-brain_mask", "label-GM_probseg")),
)


@pytest.mark.parametrize("folder", ["sub-{0}/anat/sub-{0}_", "sub-{0}/ses-1/anat/sub-{0}_ses-1_"])
@pytest.mark.parametrize("others", [(), ("space-MNI152NLin6Asym_res-2_desc-preproc_T1w",)])
def test_of_a_folder_of_fmriprep_the_volumes_in_one_space_are_proposed(folder: str, others: tuple[str, ...]) -> None:
    names = cross(folder + "{1}.nii.gz", (*FMRIPREP, *others))
    functional = cross("sub-{0}/func/sub-{0}_task-rest_space-MNI152NLin2009cAsym_desc-preproc_{1}.nii.gz", ("bold",))

    def find(*include: str) -> tuple[list[str], list[str]]:
        """Return the files that `shard` takes with some patterns, and the doubts."""
        found = select_included([*names, *functional], include, where="source")
        masks = find_masks(found, include, pictures=False)
        taken = [name for name in found if name not in masks]
        return taken, doubts(*taken, include=include)

    pattern = "*space*MNI152NLin2009cAsym*T1w*"
    assert "pass --include '*T1w*' to take one" in find()[1][0]
    assert f"pass --include '{pattern}' to take one" in find("*T1w*")[1][0]
    expected = cross(folder + "space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz", ("",))
    assert find(pattern) == (expected, [])


def test_kinds_that_no_pattern_of_their_words_tells_apart_are_named() -> None:
    (found,) = doubts(*cross("{0}/{1}.nii", ("a[1]_left-x", "x_left-a[1]")))
    assert "pass --include with a pattern to take one" in found


def test_patterns_choose_one_kind_or_several() -> None:
    names = cross("{0}/{1}.nii.gz", ("T1", "T2"))
    assert doubts(*(name for name in names if "T1" in name), include=("*T1*",)) == []
    assert doubts(*names, include=("*T1*", "*T2*")) == []
    assert doubts(*names, include=("*.gz",)) == [message("T1, T2", "*T1*")]


def test_subjects_with_one_kind_are_counted_too() -> None:
    assert doubts("01/T1.nii", "02/T1.nii", "02/T2.nii") == [message("T1, T2", "*T1*", "1 of 2")]
