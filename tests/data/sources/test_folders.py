"""The meaning of folders: splits, classes, and folders that may identify the subject."""

from pathlib import Path

import pytest

from vqdist.data.sources.folders import PlacedFile, drop_classes, explain_missing_classes, place_pictures, place_volumes
from vqdist.foundation.errors import DataError

ROOT = Path("source")


def place(*names: str) -> list[tuple[str | None, str | None, tuple[str, ...]]]:
    return [(file.split, file.class_name, file.folders) for file in place_pictures(names, ROOT)]


def test_splits_classes_and_other_folders() -> None:
    assert place("train/cat/x/1.png", "Test_Images/dog/2.png") == [("train", "cat", ("x",)), ("test", "dog", ())]
    assert place("cat/1.png", "x/y/z/2.png") == [(None, "cat", ()), (None, "x", ("y", "z"))]
    assert place("1.png") == [(None, None, ())]


@pytest.mark.parametrize(
    "folders", [("patient_1", "Patient_2"), ("P061", "P062"), ("imagesTr", "imagesTs"), ("images",)]
)
def test_folders_that_are_no_classes(folders: tuple[str, ...]) -> None:
    assert place(*(f"{folder}/1.png" for folder in folders)) == [(None, None, (folder,)) for folder in folders]
    mixed = place(*(f"{folder}/1.png" for folder in (*folders, "cat")))
    assert [class_name for _, class_name, _ in mixed] == [*folders, "cat"]


@pytest.mark.parametrize("folders", [("scan", "photo"), ("brain", "knee"), ("images", "brain"), ("image", "slices")])
def test_classes_may_have_generic_names(folders: tuple[str, ...]) -> None:
    assert place(*(f"{folder}/1.png" for folder in folders)) == [(None, folder, ()) for folder in folders]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("scan/1.png", "scan/2.png"), "the folder scan holds all images"),
        (("imagesTr/1.png", "imagesTs/2.png"), "the folders imagesTr, imagesTs hold all images"),
        (
            ("train/images/cat/1.png", "test/images/dog/2.png"),
            "the folder images holds all images; if the folders inside are classes, move them one level up",
        ),
        (("patient_1/1.png", "patient_2/1.png"), "the folders patient_1, patient_2 are subjects"),
        (("P061/1.png",), "the folder P061 is a subject"),
        (("cat/1.png", "scan/2.png"), ""),
        (("1.png", "2.png"), ""),
    ],
)
def test_the_reason_for_no_classes(names: tuple[str, ...], reason: str) -> None:
    assert explain_missing_classes(place_pictures(names, ROOT)) == reason


def test_dropped_classes_are_folders() -> None:
    files = [PlacedFile("cat/x/1.png", ("x",), None, "cat"), PlacedFile("2.png", ())]
    assert [(file.class_name, file.folders) for file in drop_classes(files)] == [(None, ("cat", "x")), (None, ())]


def test_volumes() -> None:
    files = place_volumes(["set_train/1/T1w/x.nii.gz", "test_images/a.nii", "b.nii"])
    assert [(file.split, file.folders, file.informative_folders, file.stem) for file in files] == [
        ("train", ("1", "T1w"), ("1",), "x"),
        ("test", (), (), "a"),
        (None, (), (), "b"),
    ]
    assert files[0].inside == "1/T1w/x.nii.gz"


def test_lists_of_folders_are_short() -> None:
    with pytest.raises(DataError) as error:
        place(*(f"f{number}/train/a/1.png" for number in range(999)))
    assert "999 in all" in str(error.value)
    assert len(str(error.value)) < 200
