"""Layouts: detected from the files, each file with its subject, split, label and slice number."""

from pathlib import Path

import pytest
from PIL import Image

from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.source import Source
from vqdist.data.sources.subjects import SubjectOptions
from vqdist.foundation.errors import DataError


def touch(root: Path, *names: str, mode: str = "L") -> Path:
    """Write small pictures."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (6, 4), number % 250 if mode == "L" else "red").save(root / name)
    return root


def touch_empty(root: Path, *names: str) -> Path:
    """Create empty files, for layouts whose files are not opened."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(source: Source) -> list[tuple]:
    return [(f.key, f.subject, f.split, f.label, f.slice) for f in source.files]


def test_oasis_slices(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "keras_png_slices_train/case_002_slice_10.nii.png",
        "keras_png_slices_train/case_002_slice_9.nii.png",
        "keras_png_slices_validate/case_401_slice_0.nii.png",
        "keras_png_slices_test/case_441_slice_3.nii.png",
        "keras_png_slices_seg_train/seg_002_slice_9.nii.png",
    )
    source = open_source(tmp_path)
    assert (source.layout, source.channels) == ("oasis-png", 1)
    assert table(source) == [
        ("case_441_slice_3", "case_441", "test", None, 3),
        ("case_002_slice_9", "case_002", "train", None, 9),
        ("case_002_slice_10", "case_002", "train", None, 10),
        ("case_401_slice_0", "case_401", "validate", None, 0),
    ]
    assert source.passed_over == ("keras_png_slices_seg_train/seg_002_slice_9.nii.png",)


def test_a_folder_of_several_layouts_names_a_file_of_each(tmp_path: Path) -> None:
    touch(tmp_path, "slices/case_002_slice_10.nii.png")
    touch_empty(tmp_path, "volumes/a.nii.gz")
    with pytest.raises(DataError) as caught:
        open_source(tmp_path)
    assert str(caught.value).endswith(
        "found files of several layouts: nifti (volumes/a.nii.gz), oasis-png (slices/case_002_slice_10.nii.png); "
        "expected the folder of one of these layouts, or --layout nifti or oasis-png"
    )


def test_class_folders(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path, "dog/1.png", "cat/x/2.jpg", "cat/OAS1_0007_MR1_5.png", "dog/1.bmp"))
    assert (source.layout, source.class_names) == ("imagefolder", ("cat", "dog"))
    assert {row[1:4] for row in table(source)} == {
        ("OAS1_0007", None, 0),
        ("cat/x/2.jpg", None, 0),
        ("dog/1.png", None, 1),
        ("dog/1.bmp", None, 1),
    }
    assert len({file.key for file in source.files}) == 4


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("sub-acute/a.png", "sub-acute/a.png"),
        ("sub-acute/sub-3_slice_1.png", "sub-3"),
        ("sub-acute/ward/sub-3/1.png", "sub-3"),
        ("chronic/nonsub-3.png", "chronic/nonsub-3.png"),
        ("chronic/outpatient3.png", "chronic/outpatient3.png"),
        ("chronic/left_patient3.png", "patient3"),
        ("chronic/1136_S_0184.png", "chronic/1136_S_0184.png"),
    ],
)
def test_a_picture_is_its_own_subject_unless_its_path_names_one(tmp_path: Path, name: str, subject: str) -> None:
    files = open_source(touch(tmp_path, name, "normal/z.png")).files
    assert {file.source: file.subject for file in files} == {name: subject, "normal/z.png": "normal/z.png"}


def test_class_folders_below_splits(tmp_path: Path) -> None:
    names = ("train/b/1.png", "Val/a/1.png", "test/c/1.png")
    source = open_source(touch(tmp_path, *names))
    assert source.class_names == ("a", "b", "c")
    assert [(f.split, f.label, f.subject) for f in source.files] == [
        ("validate", 0, "Val/a/1.png"),
        ("test", 2, "test/c/1.png"),
        ("train", 1, "train/b/1.png"),
    ]


def test_pictures_without_classes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(touch(tmp_path, "1.png", "2.tif"))
    assert [row[2:] for row in table(source)] == [(None, None, None)] * 2
    assert source.passed_over == ("notes.txt",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "empty folder"),
        (("1.png", "a/2.png"), "outside the class folders"),
        (("train/a/1.png", "extra/a/2.png"), "a folder beside train"),
        (("data/train/a/1.png", "data/test/a/2.png"), "the folders of the splits inside data"),
    ],
)
def test_inconsistent_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(touch(tmp_path, *names))


def test_volumes_and_discs(tmp_path: Path) -> None:
    for name in ("OAS1_0101_MR1_brain.nii.gz", "OAS1_0101_MR2_brain.nii.gz", "ixi12.nii", "sub-7/anat/T1w.nii"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).touch()
    source = open_source(tmp_path / "a")
    assert source.layout == "nifti"
    assert {(file.key, file.subject) for file in source.files} == {
        ("OAS1_0101_MR1_brain", "OAS1_0101"),
        ("OAS1_0101_MR2_brain", "OAS1_0101"),
        ("ixi12", "ixi12"),
        ("sub-7-anat-T1w", "sub-7"),
    }
    folder = tmp_path / "b" / "disc1" / "OAS1_0040_MR1" / "PROCESSED" / "MPRAGE" / "T88_111"
    folder.mkdir(parents=True)
    stem = "OAS1_0040_MR1_mpr_n4_anon_111_t88_masked_gfc"
    for ending in (".hdr", ".img", "_tra_90.gif"):
        (folder / f"{stem}{ending}").touch()
    source = open_source(tmp_path / "b")
    assert (source.layout, len(source.passed_over)) == ("oasis1", 1)
    assert table(source) == [(stem, "OAS1_0040", None, None, None)]
    with pytest.raises(DataError, match=r"several layouts: oasis1 \(.*, nifti \("):
        open_source(tmp_path)
    (folder / f"{stem}.img").unlink()
    with pytest.raises(DataError, match="one half of a pair"):
        open_source(tmp_path / "b")


def test_keys_hold_the_folders_where_names_repeat(tmp_path: Path) -> None:
    source = open_source(touch_empty(tmp_path, *(f"{n}/{name}.nii.gz" for n in (1, 2) for name in ("T1", f"scan{n}"))))
    assert [(file.key, file.subject) for file in source.files] == [
        ("1-T1", "1"),
        ("1-scan1", "1"),
        ("2-T1", "2"),
        ("2-scan2", "2"),
    ]


def test_equal_names_of_several_formats_and_splits_have_different_keys(tmp_path: Path) -> None:
    names = [f"{split}/a/1.{ending}" for split in ("train", "test") for ending in ("png", "bmp", "tif", "gif")]
    keys = [file.key for file in open_source(touch(tmp_path, *names)).files]
    assert len(set(keys)) == 8
    assert all(key.startswith("a-1") for key in keys)


def test_masks_are_left_out(tmp_path: Path) -> None:
    names = [f"{folder}Tr/hippocampus_{n:03d}.nii.gz" for folder in ("images", "labels") for n in range(3)]
    source = open_source(touch_empty(tmp_path / "a", *names))
    assert [file.source for file in source.files] == names[:3]
    assert source.masks == tuple(names[3:])
    source = open_source(tmp_path / "a", include=("labelsTr/*",))
    assert [file.source for file in source.files] == names[3:]


def test_included_files_decide_the_layout(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png")
    touch_empty(tmp_path, "b/1.nii.gz")
    assert open_source(tmp_path).layout == "nifti"
    source = open_source(tmp_path, include=("*.png",))
    assert (source.layout, len(source.files), source.passed_over) == ("imagefolder", 2, ())


def test_folders_of_subjects_are_no_classes(tmp_path: Path) -> None:
    source = open_source(touch(tmp_path / "a", "Patient_1/001.png", "patient_2/001.png", "patient_2/002.png"))
    assert source.class_names == ()
    assert {(file.key, file.subject, file.label) for file in source.files} == {
        ("Patient_1-001", "patient_1", None),
        ("patient_2-001", "patient_2", None),
        ("patient_2-002", "patient_2", None),
    }
    touch(tmp_path / "b", "1/001.png", "2/001.png", "2/002.png")
    assert open_source(tmp_path / "b").class_names == ("1", "2")
    for options in (SubjectOptions(origin="folder"), SubjectOptions(pattern=r"^(\d+)/")):
        source = open_source(tmp_path / "b", subjects=options)
        assert source.class_names == ()
        assert [file.subject for file in source.files] == ["1", "2", "2"]


def test_splits_in_folders_of_images(tmp_path: Path) -> None:
    names = ("train_images/a/1.png", "test_images/b/1.png")
    source = open_source(touch(tmp_path / "a", *names))
    assert {(file.split, file.label) for file in source.files} == {("train", 0), ("test", 1)}
    source = open_source(touch(tmp_path / "b", "train_faces/1.png", "test_faces/2.png"))
    assert [str(doubt) for doubt in source.doubts] == [
        "classes: found the classes test_faces, train_faces, which look like splits; expected classes; rename folders"
        " of splits to train, validate and test"
    ]


def test_circular_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(open_source(tmp_path).files) == 1


def test_demo(tmp_path: Path) -> None:
    source = open_source("demo", num_subjects=3, num_slices=4, image_size=32, channels=3)
    assert [file.subject for file in source.files] == ["phantom_0000", "phantom_0001", "phantom_0002"]
    pieces = source.read(source.files[2])
    assert [(piece.key, piece.slice) for piece in pieces][-1] == ("phantom_0002_slice_003", 3)
    assert pieces[0].image.shape == (3, 32, 32)


def test_colour_decides_the_channels(tmp_path: Path) -> None:
    assert open_source(touch(tmp_path / "a", "1.png", "2.png")).channels == 1
    assert open_source(touch(tmp_path / "b", "1.png", mode="RGB")).channels == 3
    assert open_source(tmp_path / "b", channels=1).channels == 1


def test_a_run_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "figures" / "losses.png")
    for name in ("status.json", "config.yaml"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="found the folder of a run; expected a folder of pictures or volumes"):
        open_source(tmp_path, image_size=64)
