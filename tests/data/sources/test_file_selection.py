"""Selection of files: patterns, and segmentation masks."""

import pytest

from vqdist.data.sources.file_selection import find_masks, matches_glob, select_included
from vqdist.foundation.errors import DataError


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/T1.nii", "T1.nii", True),
        ("a/T1.nii", "*.nii", True),
        ("T1/x.nii", "*T1*", False),
        ("T1/x.nii", "*T1*/*", True),
        ("a/b/T1.nii", "a/*.nii", True),
        ("a/T1.nii", "**/T1.nii", True),
        ("T1.nii", "**/T1.nii", True),
        ("fooT1.nii", "**/T1.nii", False),
        ("a/T1.nii", "a/**/T1.nii", True),
        ("a/b/c/T1.nii", "a/**/T1.nii", True),
        ("b/T1.nii", "a/**/T1.nii", False),
        ("a/T2.nii", "a/T[13].nii", False),
    ],
)
def test_patterns(path: str, pattern: str, expected: bool) -> None:
    assert matches_glob(path, pattern) is expected


def test_selected_files_match_any_pattern() -> None:
    names = ["a/1.png", "a/2.tif", "b/3.png"]
    assert select_included(names, [], where="here") == names
    assert select_included(names, ["*.tif", "b/*"], where="here") == names[1:]
    with pytest.raises(
        DataError, match=r"--include \*\.nii: found no match in here, which has 3 files, such as a/1.png"
    ):
        select_included(names, ["*.png", "*.nii"], where="here")
    with pytest.raises(DataError, match="which has no file"):
        select_included([], ["*.png"], where="here")


def test_masks_of_volumes() -> None:
    images = ["c1/imaging.nii.gz", "imagesTr/x.nii.gz", "IXI002-T1.nii.gz", "masked/y.nii.gz"]
    masks = ["c1/segmentation.nii.gz", "labelsTr/x.nii.gz", "IXI002-T1_mask.nii.gz", "y-seg.nii"]
    assert find_masks(images + masks, [], pictures=False) == set(masks)
    assert find_masks(masks, [], pictures=False) == set()
    assert find_masks(images + masks, ["labelsTr/*", "*.gz"], pictures=False) == set(masks) - {"labelsTr/x.nii.gz"}


def test_a_picture_is_a_mask_only_beside_a_picture_that_it_belongs_to() -> None:
    assert find_masks(["p/a_1.tif", "p/a_1_mask.tif", "p/b_mask.tif"], [], pictures=True) == {"p/a_1_mask.tif"}
    second = ["p/a (1).png", "p/a (1)_mask.png", "p/a (1)_mask_1.png", "p/a (1)_2.png"]
    assert find_masks(second, [], pictures=True) == set(second[1:3])
    assert find_masks(["images/1.png", "masks/1.png"], [], pictures=True) == {"masks/1.png"}
    assert find_masks(["x/train_images/1.png", "x/train_masks/1.png"], [], pictures=True) == {"x/train_masks/1.png"}
    for classes in (["with_mask/1.png", "without_mask/1.png"], ["mask/1.png", "no_mask/1.png"]):
        assert find_masks(classes, [], pictures=True) == set()
