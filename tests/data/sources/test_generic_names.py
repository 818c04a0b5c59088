"""Words in names that do not identify a person."""

import pytest

from vqdist.data.sources.generic_names import (
    folder_role,
    has_mask_word,
    is_generic_folder,
    is_generic_name,
    reduce_name,
    strip_counter,
    strip_last_word,
    strip_slice,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BraTS20_Training_001_t1ce", "BraTS20_Training_001"),
        ("T1_anna", "anna"),
        ("anna_ses-2_T1w", "anna"),
        ("anna_visit1-FLAIR", "anna"),
        ("vol3-slice12", "vol3"),
        ("T1w", ""),
        ("colin27_head", "colin27_head"),
        ("alice_T1_brain", "alice"),
        ("alice_T1w_bet_brain", "alice"),
        ("MCI_0001_bl", "MCI_0001"),
        ("MCI_0001_m12", "MCI_0001"),
        ("control_m12", "control_m12"),
        ("patio_1", "patio_1"),
        ("BRATS_001_0001", "BRATS_001_0001"),
    ],
)
def test_reduced_names(name: str, expected: str) -> None:
    assert reduce_name(name) == expected


def test_channels_of_nnunet() -> None:
    assert reduce_name("BRATS_001_0001", folder="imagesTr") == "BRATS_001"


def test_numbers_at_the_end() -> None:
    assert [strip_slice(name) for name in ("a_slice_3", "a-z12", "slice3", "a3")] == ["a", "a", "", None]
    assert [strip_counter(name) for name in ("anna_12", "anna 1", "anna12")] == ["anna", "anna", None]
    assert [strip_last_word(name) for name in ("colin27_head", "colin")] == [("colin27", "head"), ("", "colin")]


@pytest.mark.parametrize(
    ("name", "generic"),
    [("T1w_acpc_dc_restore_brain", True), ("img_001", True), ("brain2", True), ("anna_brain", False), ("ixi12", False)],
)
def test_generic_names(name: str, generic: bool) -> None:
    assert is_generic_name(name, numbers=False) is generic


def test_a_name_of_numbers_counts_slices_or_names_a_volume() -> None:
    assert is_generic_name("012", numbers=True)
    assert not is_generic_name("012", numbers=False)


@pytest.mark.parametrize(
    ("name", "generic"),
    [
        *((name, True) for name in ("T1w", "anat", "ses-1", "site_2", "siteB", "2020-01-31", "MNINonLinear", "HGG")),
        *((name, False) for name in ("100307", "anna", "1", "20209999", "control01", "HC12")),
    ],
)
def test_generic_folders(name: str, generic: bool) -> None:
    assert is_generic_folder(name) is generic


def test_words_of_masks() -> None:
    masks = ("x_seg", "segmentation-0", "brain_mask", "aparc+aseg", "segmentation", "T1_label2")
    assert all(map(has_mask_word, masks))
    assert not any(map(has_mask_word, ("masked_brain", "a_mask_b", "labelled", "12")))


def test_roles_of_folders() -> None:
    assert [folder_role(name) for name in ("labelsTr", "train_masks", "masks")] == ["mask"] * 3
    assert [folder_role(name) for name in ("imagesTs", "test-images", "images")] == ["image"] * 3
    assert [folder_role(name) for name in ("with_mask", "train", "cats")] == [None] * 3
