"""Sampling from Python: a map depends only on the seed and its number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support import ALONE, save_prior, save_vqvae, write_codes, write_images

from vqdist import load_model
from vqdist.config.command_options import SampleOptions
from vqdist.foundation.errors import ConfigError
from vqdist.inference import sampling
from vqdist.inference.sampling import choose_batch_size, draw_noise, sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained VQ-VAE `run`, its `codes`, and an untrained `prior` of the codes."""
    folder = tmp_path_factory.mktemp("sampling")
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    save_prior(folder / "prior", codes, condition="slice")
    return folder


def draw(prior: Path, out: Path, **options: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Sample and return the codes and the description of each sample."""
    sample(SampleOptions(prior=prior, out=out, **options), ALONE)
    return np.load(out / "codes.npy"), json.loads((out / "samples.json").read_text())["samples"]


def test_maps_are_samples_of_the_prior(folder: Path, tmp_path: Path) -> None:
    codes, _ = draw(folder / "prior", tmp_path / "out", num=3, seed=5, temperature=0.7, top_k=4, slice=10)
    noise = draw_noise(range(3), 64, 16, 5)
    np.testing.assert_array_equal(codes, load_model(folder / "prior").sample(3, (8, 8), noise, 0.7, 4, slice=10))


def test_a_map_depends_only_on_the_seed_and_its_number(folder: Path, tmp_path: Path) -> None:
    options = {"few": {"num": 3}, "many": {"num": 20}, "again": {"num": 20}, "other": {"num": 20, "seed": 1}}
    drawn = {name: draw(folder / "prior", tmp_path / name, **given) for name, given in options.items()}
    codes = {name: found for name, (found, _) in drawn.items()}
    np.testing.assert_array_equal(codes["few"], codes["many"][:3])
    np.testing.assert_array_equal(codes["again"], codes["many"])
    assert (codes["other"] != codes["many"]).any(axis=(1, 2)).all()
    assert len(np.unique(codes["many"].reshape(20, -1), axis=0)) == 20
    assert drawn["few"][1] == drawn["many"][1][:3]
    assert {item["slice"] for item in drawn["many"][1]} == {0, 10, 20}


def test_noise_is_standard_gumbel() -> None:
    noise = draw_noise(range(4), 50, 100, 0).numpy()
    assert stats.kstest(noise.ravel(), "gumbel_r").pvalue > 0.01
    np.testing.assert_array_equal(noise[2], draw_noise([2], 50, 100, 0)[0])


def test_a_gpu_samples_many_maps_at_once_within_a_limit_of_memory() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [choose_batch_size(device, 32 * 32 * 512) for device in (cpu, torch.device("mps"), cuda)] == [16, 16, 256]
    many = choose_batch_size(cuda, 64 * 64 * 1024)
    assert 16 < many < 256
    assert 4 * many * 64 * 64 * 1024 <= 2**31
    assert choose_batch_size(cuda, 512 * 512 * 8192) == 16


def test_the_size_of_a_batch_does_not_change_the_slices(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, _ = draw(folder / "prior", tmp_path / "small", num=20)
    monkeypatch.setattr(sampling, "MAPS_PER_BATCH", 40)
    large, _ = draw(folder / "prior", tmp_path / "large", num=20)
    np.testing.assert_array_equal(small, large)
    assert len(list((tmp_path / "large").glob("sample-*.png"))) == 20
    first, second = ((tmp_path / name / "sample-00018.png").read_bytes() for name in ("small", "large"))
    assert first == second


def test_misfits_are_named(folder: Path, tmp_path: Path) -> None:
    def fails_with(expected: str, prior: Path = folder / "prior", **options: Any) -> None:
        with pytest.raises(ConfigError) as error:
            draw(prior, tmp_path / "out", **({"num": 2} | options))
        assert expected in str(error.value)
        assert not (tmp_path / "out").exists()

    other = save_vqvae(tmp_path / "other", seed=1)
    fails_with("the VQ-VAE of the prior's codes", vqvae=other)
    fails_with("label: found a value; expected none", label=1, slice=10)
    fails_with("--label: found 'cats'; expected none, as the prior is not conditioned on label", label="cats", slice=10)
    fails_with("slice: found 99; expected a number in [0, 21)", slice=99)
    fails_with("top_k: found 17", top_k=17)
    fails_with("slice: found -1; expected a number in [0, 21)", slice=-1)
    hiding = save_prior(tmp_path / "hiding", folder / "codes", condition="slice", condition_dropout=0.1)
    expected = "slice: found -1; expected a number in [0, 21), or --condition slice=unknown"
    fails_with(expected, prior=hiding, slice=-1)
    labelled = save_prior(tmp_path / "labelled", folder / "codes", condition="label")
    both = save_prior(tmp_path / "both", folder / "codes", condition="label+slice")
    fails_with("no training sample with label 7", prior=both, label=7)
    fails_with("--label: found 'roses'; expected the number of a class: the classes", prior=labelled, label="roses")
    name_classes(labelled, ["daisies", "roses"])
    fails_with("label: found 7; expected a number in [0, 2): 0 daisies, 1 roses", prior=labelled, label=7)
    fails_with("--label: found 'rose'; expected a class: 0 daisies, 1 roses", prior=labelled, label="rose")
    name_classes(labelled, [f"c{number}" for number in range(99)])
    fails_with("a class: 0 c0, 1 c1, 2 c2, 3 c3, 4 c4, ... (99 classes)", prior=labelled, label="rose")


def test_a_class_without_a_training_sample_is_refused(folder: Path, tmp_path: Path) -> None:
    prior = save_prior(tmp_path / "prior", folder / "codes", condition="label")
    config = prior / "model" / "config.json"
    changes = {"class_names": ["daisies", "roses"], "conditions": [[0, None, 12]]}
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    assert {sample["label"] for sample in draw(prior, tmp_path / "out", num=3)[1]} == {0}
    with pytest.raises(
        ConfigError, match=r"label: found 1 roses, a class without a training sample; expected .* 0 daisies"
    ):
        draw(prior, tmp_path / "none", num=2, label=1)
    assert not (tmp_path / "none").exists()


def name_classes(prior: Path, names: list[str]) -> None:
    config = prior / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"class_names": names}))


@pytest.mark.parametrize(("label", "number"), [("roses", 1), ("daisies", 0), (1, 1), ("1", 1)])
def test_a_class_is_given_by_number_or_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str | int, number: int
) -> None:
    prior = save_prior(tmp_path / "prior", folder / "codes", condition="label")
    name_classes(prior, ["daisies", "roses"])
    _, described = draw(prior, tmp_path / "out", num=2, label=label)
    assert [item["label"] for item in described] == [number, number]
    assert f"label {number}: class {('daisies', 'roses')[number]}\n" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["prior", "vqvae"])
def test_the_option_of_an_unusable_path_is_named(folder: Path, tmp_path: Path, option: str) -> None:
    given = {"prior": folder / "prior", "out": tmp_path / "out", option: tmp_path / "nothing"}
    with pytest.raises(ConfigError, match=f"^--{option} {tmp_path / 'nothing'}: found nothing"):
        sample(SampleOptions(**given), ALONE)
