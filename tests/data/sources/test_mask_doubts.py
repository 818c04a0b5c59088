"""Sources of segmentation masks, or of images and masks that are not told apart by a partner."""

import pytest

from vqdist.data.sources.mask_doubts import find_mask_doubts

CASES = [f"case_{case}/mask_{number}.png" for case in range(5) for number in range(20)]


def doubts(*names: str, include: tuple[str, ...] = (), root: str = "source") -> list[str]:
    return [str(problem) for problem in find_mask_doubts(names, include, root_name=root)]


def test_a_source_of_masks() -> None:
    assert doubts(*CASES) == [
        "masks: found 100 of 100 files that look like segmentation masks, such as case_0/mask_0.png; "
        "expected images; they are written as images, and --include '*' says that this is intended"
    ]
    assert doubts(*CASES, include=("*",)) == []


@pytest.mark.parametrize(
    ("names", "root"),
    [
        (("a/1_seg.nii.gz", "b/2_seg.nii.gz"), "source"),
        (("labelsTr/a.nii.gz", "labelsTr/b.nii.gz"), "source"),
        (("a.nii.gz", "b.nii.gz"), "labelsTr"),
        (("case_1/1.png", "case_2/1.png"), "masks"),
        (("masks/mask_1.png", "masks/mask_2.png"), "source"),
    ],
)
def test_names_and_folders_of_masks(names: tuple[str, ...], root: str) -> None:
    (found,) = doubts(*names, root=root)
    assert found.startswith("masks: found 2 of 2 files that look like segmentation masks")


def test_masks_among_the_images_of_a_folder() -> None:
    (found,) = doubts("a/img_0.png", "a/mask_0.png", "b/1.png")
    assert found == (
        "masks: found 1 of 3 files that look like segmentation masks, such as a/mask_0.png; "
        "expected images only; pass --include with patterns of the images, or with one that matches only masks"
    )
    assert doubts("a/img_0.png", "a/mask_0.png", include=("*_0.png",))
    assert doubts("a/img_0.png", "a/mask_0.png", include=("img*", "mask*")) == []


@pytest.mark.parametrize(
    ("names", "root"),
    [
        (("with_mask/with_mask_1.png", "without_mask/without_mask_1.png"), "source"),
        (("mask/1.png", "no_mask/1.png"), "source"),
        (("lesion/lesion_1.png", "normal/normal_1.png"), "source"),
        (("images/1.png", "images/2.png"), "segmentation"),
        (("T1.nii", "T2.nii"), "source"),
    ],
)
def test_classes_and_images_are_no_masks(names: tuple[str, ...], root: str) -> None:
    assert doubts(*names, root=root) == []
