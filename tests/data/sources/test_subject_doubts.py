"""Doubts: signs that files of one person are taken for several subjects."""

from pathlib import Path

import pytest

from vqdist.data.sources.folders import place_pictures, place_volumes
from vqdist.data.sources.subject_doubts import find_class_doubts, find_subject_doubts
from vqdist.data.sources.subjects import BY_NAME_OR_FOLDER, SubjectOptions, identify_subjects


def doubts(*names: str, options: SubjectOptions = BY_NAME_OR_FOLDER) -> list[str]:
    is_picture = names[0].endswith(".png")
    files = place_pictures(names, Path("source")) if is_picture else place_volumes(names)
    subjects = identify_subjects(files, options, pictures=is_picture, root_name="source")
    return [problem.found for problem in find_subject_doubts(files, subjects)]


@pytest.mark.parametrize(
    ("names", "sign"),
    [
        (("1/001.png", "2/001.png", "2/002.png"), "1 file name occurs in several folders (001)"),
        (("train/1/7.png", "train/2/7.png"), "1 file name occurs in several folders (7)"),
        (("ill/anna/a.png", "ill/anna/b.png", "ill/bob/c.png"), "1 folder holds several files (anna)"),
        (("anna/a.nii", "anna/b.nii", "bob/c.nii"), "1 folder holds several files (anna)"),
        (("anna_1.png", "anna_2.png", "bob_1.png", "bob_2.png"), "2 names occur with several numbers (anna, bob)"),
    ],
)
def test_repeated_names_and_folders(names: tuple[str, ...], sign: str) -> None:
    assert doubts(*names) == [f"{len(names)} files, each a subject of its own, although {sign}"]


@pytest.mark.parametrize(
    "names",
    [
        ("cat/flower 1.png", "cat/flower 2.png", "dog/rose.png"),
        ("train/a/1.png", "test/a/1.png"),
        ("n01/n01_1.png", "n01/n01_2.png", "n02/n02_3.png", "n02/n02_4.png"),
        ("hippocampus_001.nii", "hippocampus_002.nii"),
        ("imagesTr/B_001_0000.nii", "imagesTr/B_001_0001.nii", "imagesTr/B_002_0000.nii", "imagesTr/B_002_0001.nii"),
        ("1/T1.nii", "2/T1.nii", "2/T2.nii"),
        ("OAS1_0001_MR1_brain.nii", "OAS1_0001_MR1_head.nii"),
    ],
)
def test_no_doubt(names: tuple[str, ...]) -> None:
    assert doubts(*names) == []


def test_one_person_under_two_names_is_found_by_the_shared_stem() -> None:
    assert doubts("colin27_head.nii", "colin27_brain.nii", "OAS1_0001_MR1.nii", "anna.nii") == [
        "different subjects whose names share a stem, which may be one person: colin27_brain and colin27_head"
    ]
    assert doubts("anna_front.png", "anna_back.png", "bob.png") == [
        "different subjects whose names share a stem, which may be one person: anna_back and anna_front"
    ]
    assert doubts("Mueller_2019.nii", "Mueller_2021.nii", "Smith_2018.nii", "bob.nii", "bob_head.nii") == [
        "different subjects whose names share a stem, which may be one person: Mueller_2019 and Mueller_2021; "
        "bob and bob_head"
    ]


@pytest.mark.parametrize(
    ("template", "people", "visits"),
    [
        ("miriad_{0}_AD_M_{1}_MR_1.nii", ("184", "185", "190"), ("01", "02")),
        ("{0}_20252_{1}_0/T1/T1_brain.nii", ("1000013", "1000015", "1000022"), ("2", "3")),
        ("{0}_{1}.nii", ("RS", "KL", "AB"), ("pre", "post")),
        ("AD_{0}_{1}.nii", ("01", "02", "03"), ("v1", "v2")),
        ("{1}{0}.nii", ("S01", "S02", "S03"), ("", "wm", "smwc1")),
        ("training{0}_{1}_flair.nii", ("01", "02", "03"), ("01", "02")),
        ("{0}{1}_T1.nii", ("0001", "0002", "0003"), ("V1", "V2")),
        ("{0}{1}.nii", ("001", "002", "003"), ("a", "b")),
        ("{0}-{1}.nii", ("AB", "CD", "EF"), ("3T", "7T")),
        ("{0}_{1}/mri/T1.nii", ("001", "002", "003"), ("base", "long")),
        ("{0}{1}.png", ("anna", "ben", "cara", "finn"), ("0", "1", "2", "3")),
        ("{0}_{1}.png", ("anna1", "anna2", "anna3"), ("baseline", "followup")),
        ("{0}_{1}.png", ("smith", "wang"), ("m00", "m12")),
        ("{0}_{1}.png", ("smith", "wang"), ("visit1", "visit2")),
    ],
)
def test_visits_that_count_as_people_are_doubted(
    template: str, people: tuple[str, ...], visits: tuple[str, ...]
) -> None:
    (found,) = doubts(*(template.format(person, visit) for person in people for visit in visits))
    assert found.startswith("different subjects whose names share a stem, which may be one person: ")


@pytest.mark.parametrize(
    "names",
    [
        [f"{group}{number:03d}.nii" for group in ("AD", "CN", "MCI") for number in range(8)],
        [f"{number:02d}-{number * 7919 % 1000:03d}.nii" for number in range(10, 40)],
        [f"{number * 2654435761 % 2**32:08x}.nii" for number in range(1, 60)],
        [f"ill/IMG{number}.png" for number in range(20)] + [f"well/DSC{number}.png" for number in range(20)],
        [f"{kind}/{kind}{number}.png" for kind in ("cat", "dog", "cow") for number in range(2)],
        [f"ill/{number * 2654435761 % 2**32:08x}.png" for number in range(1, 900)],
        [f"{year}_{number:03d}.nii" for year in range(2010, 2014) for number in range(9)],
    ],
)
def test_groups_and_numbers_of_people_leave_no_doubt(names: list[str]) -> None:
    assert doubts(*names) == []


def test_both_sides_of_a_person_leave_no_doubt() -> None:
    assert doubts("anna_left.png", "anna_right.png", "bob.png") == []


def test_a_pattern_of_the_user_leaves_no_doubt() -> None:
    assert doubts("1/001.png", "2/001.png", options=SubjectOptions(pattern=".+")) == []


def test_lists_are_short() -> None:
    (found,) = doubts(*(f"{folder}/{number:05d}.png" for folder in (1, 2) for number in range(500)))
    assert "500 file names" in found
    assert len(found) < 200


def test_classes_that_look_like_splits() -> None:
    (problem,) = find_class_doubts(["cats", "seg_test", "seg_train"])
    assert problem.found == "the classes seg_test, seg_train, which look like splits"
    assert find_class_doubts(["test-tube", "train-station"])
    assert find_class_doubts(["train_station", "cat"]) == []


def test_classes_that_look_like_subjects() -> None:
    (problem,) = find_class_doubts(["normal", "patient_1", "sub-acute"])
    assert problem.found == "the classes patient_1, which look like subjects, beside others, which do not"
    assert find_class_doubts(["normal", "sub-acute", "case"]) == []
