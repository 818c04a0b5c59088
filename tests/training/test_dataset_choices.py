"""The keys that a dataset decides: chosen for its layout and size, once per run, in the recommended configurations."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support import run_command_main, tiny_flags, write_image_set

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.data.shards.manifest import Manifest, SplitInfo
from vqdist.runs.resume_checks import keep_chosen_values, run_dir_problems
from vqdist.training.dataset_choices import choose_for_dataset, describe_choices
from vqdist.training.tasks.vqvae import VQVAETask


def configure(name: str | None, **flags: Any) -> RunConfig:
    config, problems = load_config(name, [(key.replace("__", "."), str(value)) for key, value in flags.items()])
    assert config is not None
    assert problems == []
    return config


def images_of(layout: str, side: int = 256) -> Manifest:
    split = {"train": SplitInfo((), 0, 1, (0.1,), (0.04,))}
    return Manifest("images", (side, side), 1, split, {"layout": layout})


def codes_of(layout: str) -> Manifest:
    return Manifest("codes", (256, 256), 1, {}, {"images_source": {"layout": layout}}, num_codes=512, grid=(32, 32))


@pytest.mark.parametrize(
    ("layout", "mirror"), [("oasis-png", "up-down"), ("nifti", "up-down"), ("imagefolder", "none")]
)
def test_the_recommended_configurations_fit_the_layout(layout: str, mirror: str) -> None:
    vqvae = choose_for_dataset(configure("vqvae_oasis"), images_of(layout))
    assert (vqvae.data.mirror, vqvae.data.crop) == (mirror, 96)
    prior = choose_for_dataset(configure("pixelcnn_oasis"), codes_of(layout))
    assert prior.model.symmetry == mirror


@pytest.mark.parametrize(("side", "crop"), [(256, 96), (104, 96), (96, None), (64, None), (32, None)])
def test_the_recommended_crop_fits_smaller_images(side: int, crop: int | None) -> None:
    manifest = images_of("imagefolder", side)
    chosen = choose_for_dataset(configure("vqvae_oasis"), manifest)
    assert chosen.data.crop == crop
    assert VQVAETask.find_problems(chosen, manifest) == []


def test_given_values_are_kept() -> None:
    config = configure("vqvae_oasis", data__mirror="left-right", data__crop=48)
    assert choose_for_dataset(config, images_of("imagefolder")) == config
    assert describe_choices(config, images_of("imagefolder")) == ""


def test_the_message_names_reason_and_values() -> None:
    config = configure("vqvae_oasis")
    found = describe_choices(config, images_of("imagefolder", 64))
    assert found == "chosen for images of 64 x 64 of the layout imagefolder: data.mirror none, data.crop null"
    found = describe_choices(configure("pixelcnn_oasis"), codes_of("nifti"))
    assert found == "chosen for images of 256 x 256 of the layout nifti: model.symmetry up-down"


@pytest.mark.parametrize(("layout", "name"), [("imagefolder", "vqvae_oasis"), ("oasis-png", "vqvae_oasis")])
def test_a_run_of_an_earlier_version_keeps_its_values(layout: str, name: str, tmp_path: Path) -> None:
    requested = configure(name, run__dir=tmp_path, run__name="run", tracking__mode="disabled")
    old = yaml.safe_load(dump_yaml(requested.replace("data", mirror="up-down", crop=96)))
    old["data"]["mirror"] = "rows"  # as earlier versions wrote it
    old["optim"]["decay_steps"], old["train"]["precision"] = 3300, "fp32"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(old))
    resumed = choose_for_dataset(keep_chosen_values(requested), images_of(layout))
    assert (resumed.data.mirror, resumed.data.crop) == ("up-down", 96)
    assert run_dir_problems(resumed) == []
    same = configure(name, run__dir=tmp_path, run__name="run", data__mirror="rows", data__crop=96)
    assert run_dir_problems(keep_chosen_values(same)) == []
    other = configure(name, run__dir=tmp_path, run__name="run", data__mirror="none")
    assert [problem.where for problem in run_dir_problems(keep_chosen_values(other))] == ["data.mirror"]


def test_a_prior_of_an_earlier_version_keeps_its_symmetry(tmp_path: Path) -> None:
    requested = configure("pixelcnn_oasis", run__dir=tmp_path, run__name="run")
    old = yaml.safe_load(dump_yaml(requested))
    old["model"]["symmetry"] = "rows"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(old))
    resumed = choose_for_dataset(keep_chosen_values(requested), codes_of("imagefolder"))
    assert resumed.model.symmetry == "up-down"


def test_a_run_records_and_prints_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_image_set(tmp_path / "data")
    words = [*tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--run.name", "run", "--train.max_steps", 2]
    words += ["--data.mirror", "auto", "--data.crop", "auto", "--tracking.mode", "disabled", "--run.device", "cpu"]
    for _ in range(2):  # the second attempt finds the values in config.yaml
        assert run_command_main("train", [str(word) for word in words]) == 0
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]
    assert (saved["mirror"], saved["crop"]) == ("none", None)
    printed = capsys.readouterr().err
    assert printed.count("of unknown layout: data.mirror none, data.crop null\n") == 1
