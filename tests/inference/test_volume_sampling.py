"""Sampling of whole volumes: slice after slice, each given the one before it."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from support import ALONE, VOLUMES, save_prior, save_vqvae, write_codes, write_image_set

from vqdist import load_model
from vqdist.config.command_options import SampleOptions
from vqdist.data.sources.slice_affines import centred_affine
from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import ConfigError
from vqdist.inference.sampling import draw_noise
from vqdist.inference.volume_sampling import MAX_SLICES, prepare_volume_sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained priors of the codes of volumes with slices 14 to 17: `prior` with and `alone` without the context."""
    folder = tmp_path_factory.mktemp("volumes")
    images = write_image_set(folder / "images", slices=VOLUMES, affine=centred_affine(2.0, 32))
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), images)
    save_prior(folder / "prior", codes, condition="label+slice", context="previous")
    save_prior(folder / "alone", codes)
    return folder


def draw(folder: Path, out: Path, **options: Any) -> dict[str, Any]:
    prepare_volume_sampling(SampleOptions(prior=folder / "prior", out=out, **options), ALONE).run(ALONE)
    return json.loads((out / "samples.json").read_text())


def test_each_slice_is_drawn_given_the_one_before(folder: Path, tmp_path: Path) -> None:
    described = draw(folder, tmp_path / "out", volumes=2, seed=5, label=1, temperature=0.9)
    codes = np.load(tmp_path / "out/codes.npy")
    assert codes.shape == (2, 4, 8, 8)
    prior, previous = load_model(folder / "prior"), torch.full((2, 8, 8), -1)
    for place, number in enumerate(range(14, 18)):
        noise = draw_noise([number, MAX_SLICES + number], 64, 16, 5)
        previous = prior.sample(2, (8, 8), noise, 0.9, label=1, slice=number, previous=previous)
        np.testing.assert_array_equal(codes[:, place], previous)
    assert described["slices"] == [14, 15, 16, 17]
    assert described["volumes"] == [{"file": f"volume-0000{n}.nii.gz", "label": 1, "slice": None} for n in range(2)]


def test_the_files_of_a_volume(folder: Path, tmp_path: Path) -> None:
    draw(folder, tmp_path / "out", volumes=1)
    codes = torch.from_numpy(np.load(tmp_path / "out/codes.npy")[0])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("volume-00000.nii.gz", "volume-00000.png", "codes.npy", "samples.json")
    }
    volume = nibabel.load(tmp_path / "out/volume-00000.nii.gz")
    np.testing.assert_array_equal(volume.affine, centred_affine(2.0, 32))
    assert volume.header.get_zooms() == (2, 2, 1)
    decoded = load_model(folder / "prior" / "model" / "vqvae").decode(codes)[:, 0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(np.asarray(volume.dataobj), decoded * 255, atol=0.51)


def test_shard_gives_the_slices_back(folder: Path, tmp_path: Path) -> None:
    """As `vqdist shard --layout nifti` reads them; voxels of 1 mm, as in the OASIS slices, are not resampled."""
    images = write_image_set(tmp_path / "images", slices=VOLUMES, affine=centred_affine(1.0, 32))
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images)
    save_prior(tmp_path / "prior", codes, context="previous")
    draw(tmp_path, tmp_path / "out", volumes=1)
    path = tmp_path / "out/volume-00000.nii.gz"
    slices = np.asarray(nibabel.load(path).dataobj).transpose(2, 0, 1)
    assert slices.max() > 0
    np.testing.assert_array_equal(slice_volume(path, num_slices=4, image_size=32), slices)


def test_volumes_depend_on_seed_and_number_only(folder: Path, tmp_path: Path) -> None:
    drawn = {}
    for name, options in {"few": {"volumes": 2}, "many": {"volumes": 3}, "other": {"volumes": 2, "seed": 1}}.items():
        draw(folder, tmp_path / name, **options)
        drawn[name] = np.load(tmp_path / name / "codes.npy")
    np.testing.assert_array_equal(drawn["few"], drawn["many"][:2])
    assert (drawn["few"] != drawn["other"]).any(axis=(1, 2, 3)).all()


def test_misfits_are_named(folder: Path, tmp_path: Path) -> None:
    options = SampleOptions(prior=folder / "alone", out=tmp_path / "out", volumes=2)
    with pytest.raises(ConfigError, match="--volumes 2: found a prior that draws each slice on its own; expected a"):
        prepare_volume_sampling(options, ALONE)
    named = SampleOptions(prior=folder / "prior", out=tmp_path / "out", volumes=2, condition=("slice=3", "label=1"))
    assert [problem.where for problem in named.find_conflicts()] == ["--condition slice"]
    both = SampleOptions(prior=folder / "prior", out=tmp_path / "out", volumes=2, num=3, slice=1)
    assert [problem.where for problem in both.find_conflicts()] == ["--num", "--slice"]
    assert SampleOptions(prior=folder / "prior", out=tmp_path / "out", num=3).find_conflicts() == []
