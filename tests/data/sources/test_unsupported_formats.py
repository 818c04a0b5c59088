"""Files in formats that are not read: the message names the format and the conversion."""

import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.cmdline.convert import main as nib_convert
from PIL import Image

from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.unsupported_formats import name_volumes
from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import DataError


def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 900, (12, 14, 10)).astype(np.int16)


def touch(root: Path, *names: str, data: bytes = b"") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def save_pair(root: Path, name: str, kind: type = nibabel.Nifti1Pair) -> None:
    """Write NAME.hdr and NAME.img."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image = kind(volume(), np.eye(4))
    plain = root / name.replace(".nifti", "")
    image.to_filename(str(plain.with_suffix(".img")))
    for ending in (".hdr", ".img"):
        plain.with_suffix(ending).rename(root / f"{name}{ending}")
    plain.with_suffix(".mat").unlink(missing_ok=True)


def message(root: Path, layout: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        open_source(root, layout=layout)
    return str(caught.value)


def test_oasis_2_is_named_and_its_command_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in (1, 2):
        save_pair(tmp_path / "in", f"OAS2_{subject:04d}_MR1/RAW/mpr-1.nifti")
    for layout in ("auto", "nifti", "imagefolder", "oasis1"):
        text = message(tmp_path / "in", layout)
        assert "OASIS-2 volumes in NIfTI pairs of .hdr and .img (2), such as OAS2_0001_MR1/RAW/mpr-1.nifti.hdr" in text
    command = shlex.split(text.split("`")[1])
    assert command[0] == "nib-convert"
    monkeypatch.chdir(tmp_path)
    nib_convert(command[1:])
    assert command[2] == "OAS2_0001_MR1_RAW_mpr-1.nii.gz"
    assert slice_volume(command[2], num_slices=2, image_size=8).shape == (2, 8, 8)


def test_oasis_1_raw_with_its_previews_is_named(tmp_path: Path) -> None:
    """The discs have a GIF beside each volume, which must not become the data."""
    for subject in range(1, 4):
        name = f"disc1/OAS1_{subject:04d}_MR1/RAW/OAS1_{subject:04d}_MR1_mpr-1_anon"
        save_pair(tmp_path, name, nibabel.Spm99AnalyzeImage)
        Image.new("L", (4, 4)).save(tmp_path / f"{name}_sag_66.gif")
    text = message(tmp_path)
    assert "OASIS-1 volumes without orientation" in text
    assert "(3) beside 3 pictures, such as disc1/OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.hdr" in text
    assert "T88_111/*_t88_masked_gfc.{hdr,img}" in text
    assert "NIfTI volumes (.nii, .nii.gz)" in text
    assert open_source(tmp_path, layout="imagefolder").layout == "imagefolder"


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.AnalyzeImage])
def test_other_pairs_are_recognised_by_their_header(tmp_path: Path, kind: type) -> None:
    save_pair(tmp_path, "a", kind)
    save_pair(tmp_path, "b", kind)
    text = message(tmp_path)
    assert ("NIfTI pairs of .hdr and .img (2)" if kind is nibabel.Nifti1Pair else "Analyze 7.5 volumes") in text
    assert "nib-convert" in text


@pytest.mark.parametrize("name", ["P1/IM{}.dcm", "P1/IM{}", "1.2.840.{}", "P{}/DICOMDIR", "{}.IMA"])
def test_dicom_is_recognised_by_name_or_content(tmp_path: Path, name: str) -> None:
    data = b"" if name.endswith(("DICOMDIR", "IMA")) else bytes(128) + b"DICM"
    touch(tmp_path, *(name.format(number) for number in range(4)), data=data)
    text = message(tmp_path)
    assert f"DICOM files (4), such as {name.format(0)}" in text
    assert f"mkdir OUT && dcm2niix -z y -f %i_%s -o OUT {tmp_path}" in text


def test_freesurfer_volumes_are_named_and_their_command_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(
        tmp_path,
        "in/bert/mri/aseg.mgz",
        "in/bert/surf/lh.white",
        "in/bert/stats/aseg.stats",
        "in/bert/scripts/recon-all.log",
    )
    nibabel.save(nibabel.MGHImage(volume(), np.eye(4)), tmp_path / "in/bert/mri/brain.mgz")
    text = message(tmp_path / "in")
    assert "FreeSurfer volumes (2), such as bert/mri/brain.mgz" in text
    monkeypatch.chdir(tmp_path)
    nib_convert(shlex.split(text.split("`")[1])[1:])
    assert slice_volume("bert_mri_brain.nii.gz", num_slices=2, image_size=8).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("a.nrrd", "NRRD volumes", "SimpleITK.WriteImage"),
        ("a.mha", "MetaImage volumes", "'a.nii.gz'"),
        ("a.mnc", "MINC volumes", "nib-convert"),
        ("s/brain+orig.HEAD", "AFNI volumes", "s_brain+orig.nii.gz"),
        ("a.PAR", "Philips PAR/REC", "parrec2nii"),
        ("a.nii.xz", "compressed NIfTI", "compress them with gzip"),
        ("a.npy", "files of arrays", "nibabel.Nifti1Image"),
        ("a.heic", "HEIC", "magick"),
        ("my film.mp4", "videos", "ffmpeg -i"),
        ("train-000.tar", "tar files", "--layout webdataset"),
        ("a.tar.gz", "archives", "extract them"),
        ("a.zip", "archives", "extract them"),
    ],
)
def test_each_format_has_its_advice(tmp_path: Path, name: str, found: str, expected: str) -> None:
    touch(tmp_path, name)
    text = message(tmp_path)
    assert found in text
    assert expected in text.split("; expected ", 1)[1]


def test_other_files_beside_pictures_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "masks.npz", "labels.mat", "all.zip", "notes.txt", "c.hdr", "scan.dcm")
    for number in range(12):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    assert (source.layout, len(source.files), len(source.passed_over)) == ("imagefolder", 12, 6)


def test_the_image_of_a_pair_is_recognised_by_its_header(tmp_path: Path) -> None:
    save_pair(tmp_path, "a")
    image = tmp_path / "a.img"
    assert name_volumes(image) == name_volumes(tmp_path / "a.hdr") == "NIfTI pairs of .hdr and .img"
    said = message(image)
    assert said.startswith(f"{image}: found NIfTI pairs of .hdr and .img (1), such as a.hdr")
    assert f"`nib-convert {tmp_path / 'a.hdr'} a.nii.gz`" in said


def test_unknown_files_keep_the_general_message(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.hdr")
    assert "2 files, such as a.txt; expected CLASS/picture.png, volumes that end in .nii or .nii.gz" in message(
        tmp_path
    )


def test_an_empty_folder_may_be_of_any_layout(tmp_path: Path) -> None:
    layouts = "CLASS/picture.png, volumes that end in .nii or .nii.gz, or another layout of `vqdist shard --help`"
    assert message(tmp_path).endswith(f"found an empty folder; expected {layouts}")
    with pytest.raises(DataError, match=r"expected CLASS/picture\.png, perhaps below train/"):
        open_source(tmp_path, layout="imagefolder")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("scan.dcm", b"", "found DICOM files (1), such as scan.dcm; expected NIfTI volumes (.nii, .nii.gz): convert"),
        ("IM0001", bytes(128) + b"DICM", "found DICOM files (1), such as IM0001"),
        (
            "a.nii.gz",
            b"",
            "found a single file; expected its folder, {root}; `--include a.nii.gz` takes this",
        ),
        ("b c.png", b"", "found a single file; expected its folder, {root}; `--include 'b c.png'` takes this file"),
        ("notes.txt", b"", "found a file; expected a folder: CLASS/picture.png"),
    ],
)
def test_a_single_file_is_no_source(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    touch(tmp_path, name, data=data)
    assert message(tmp_path / name).startswith(f"{tmp_path / name}: {expected.format(root=tmp_path)}")
