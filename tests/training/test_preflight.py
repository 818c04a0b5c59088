"""What is looked at before a run takes anything: its data, the weights that it starts from, its directory."""

import json
import shutil
from pathlib import Path

import pytest
from support import TINY_VQVAE, tiny_flags, train, write_image_set
from support.third_party_shards import encode_picture, write_tar

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.models.io import save_model
from vqdist.models.vqvae import VQVAE
from vqdist.runs.resume_checks import is_finished
from vqdist.training.preflight import check_run
from vqdist.training.resolve import resolve_config
from vqdist.training.tasks import TASKS


def config_of(*words: object) -> RunConfig:
    texts = [str(word) for word in words]
    config, problems = load_config(None, [(name[2:], text) for name, text in zip(texts[::2], texts[1::2], strict=True)])
    assert config is not None
    assert problems == []
    return resolve_config(config, "disabled")


def problems_of(*words: object) -> str:
    config = config_of(*words)
    return "\n".join(map(str, check_run(config, TASKS[config.task])[0]))


def test_images_smaller_than_the_window_of_ssim_are_refused(image_set: Path, tmp_path: Path) -> None:
    manifest = json.loads((image_set / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(manifest | {"image_size": [8, 16]}))
    found = problems_of("--data.path", tmp_path)
    assert "data.path: found images of 8 x 16; expected at least 11 pixels a side" in found


@pytest.mark.parametrize(("crop", "fits"), [(32, True), (16, True), (40, False), (8, False)])
def test_squares_must_fit_the_images_and_the_window_of_ssim(image_set: Path, crop: int, fits: bool) -> None:
    expected = "" if fits else f"data.crop: found {crop}; expected 11 to 32 pixels"
    assert problems_of("--data.path", image_set, "--data.crop", crop).startswith(expected)
    assert (problems_of("--data.path", image_set, "--data.crop", crop) == "") is fits


def test_squares_are_a_multiple_of_the_downsampling(image_set: Path) -> None:
    _, problems = load_config(None, [("data.path", str(image_set)), ("data.crop", "20"), ("model.downsample", "8")])
    assert [str(problem) for problem in problems] == ["data.crop: found 20; expected a multiple of model.downsample, 8"]


def test_the_demos_data_are_looked_at_where_they_are_there(image_set: Path, code_set: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert problems_of("--run.dir", runs) == ""
    runs.mkdir()
    (runs / "demo-data").symlink_to(image_set)
    assert problems_of("--run.dir", runs) == ""
    found = problems_of("--run.dir", runs, "--data.global_batch_size", 61)
    assert found.startswith("data.global_batch_size: found 61 for 60 samples of train in ")
    (runs / "demo-data").unlink()
    (runs / "demo-data").symlink_to(code_set)
    assert "expected images for task vqvae" in problems_of("--run.dir", runs)


@pytest.mark.ranks
def test_the_demos_data_are_looked_at_once_they_are_made(tmp_path: Path) -> None:
    ended = train("--run.dir", tmp_path, "--data.global_batch_size", 10_000, check=False)
    assert ended.code == 2
    assert "data.global_batch_size: found 10000 for " in ended.logs[0]
    assert [path.name for path in tmp_path.iterdir()] == ["demo-data"]


def test_weights_to_start_from_are_looked_at_with_all_else(image_set: Path, tmp_path: Path) -> None:
    save_model(VQVAE(1, **TINY_VQVAE), tmp_path / "model")
    flags = [*tiny_flags(), "--run.dir", tmp_path / "runs", "--checkpoint.resume"]
    data = ("--data.path", image_set)
    assert problems_of(*flags, tmp_path / "model", *data) == ""
    found = problems_of(*flags, tmp_path / "model", *data, "--model.hidden", 10)
    assert f"checkpoint.resume {tmp_path / 'model'}: decoder.mix.weight: found shape (8, 4, 3, 3)" in found
    found = problems_of(*flags, tmp_path / "nosuch", "--data.path", tmp_path / "none")
    assert f"checkpoint.resume {tmp_path / 'nosuch'}" in found
    assert "data.path" in found
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[object]]:
    """A finished run of 4 steps whose data are gone, and its flags."""
    folder = tmp_path_factory.mktemp("finished")
    data = write_image_set(folder / "data")
    flags = [*tiny_flags(), "--data.path", data, "--run.dir", folder, "--run.name", "run", "--train.max_steps", 4]
    train(*flags)
    shutil.rmtree(data)
    return folder / "run", flags


@pytest.mark.ranks
def test_a_finished_run_needs_its_data_no_more(finished: tuple[Path, list[object]]) -> None:
    run, flags = finished
    assert is_finished(config_of(*flags))
    before = (run / "owner.json").read_bytes()
    ended = train(*flags)
    assert "nothing to do" in ended.logs[0]
    assert (run / "owner.json").read_bytes() == before
    assert "no such folder" in problems_of(*flags, "--train.max_steps", 5)
    assert "optim.lr" in problems_of(*flags, "--optim.lr", 0.5)


@pytest.mark.ranks
def test_a_run_from_weights_goes_on_wherever_it_is_started(
    finished: tuple[Path, list[object]], image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = finished[0] / "checkpoints"
    new = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--run.name", "new", "--train.max_steps", 4]
    monkeypatch.chdir(weights)
    config = config_of(*new, "--checkpoint.resume", "step-00000004")
    assert config.checkpoint.resume == str(weights / "step-00000004")
    ended = train(*new, "--checkpoint.resume", config.checkpoint.resume, "--train.stop_at_step", 2, check=False)
    assert ended.code == 75
    monkeypatch.chdir(weights.parent)
    assert problems_of(*new, "--checkpoint.resume", "checkpoints/step-00000004") == ""
    assert "which contains a run" in problems_of(*new, "--checkpoint.resume", "model")


def test_a_condition_that_cannot_be_kept_is_refused_once(code_set: Path, tmp_path: Path) -> None:
    data = shutil.copytree(code_set, tmp_path / "codes")
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"num_slices": None}))
    words = ["--task", "pixelcnn", "--data.path", data, "--run.dir", tmp_path, "--model.condition"]
    refused = "model.condition: found slice; the codes have no slice"
    assert problems_of(*words, "slice").startswith(refused)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump_yaml(config_of(*words, "none", "--run.name", "run")))
    assert problems_of(*words, "slice", "--run.name", "run") == (
        "this run uses model.condition none, which cannot change; you gave slice: remove it, or choose a new --run.name"
    )


def test_compiling_without_a_compiler_is_refused(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = problems_of("--data.path", image_set, "--train.compile", "true")
    assert found.startswith("train.compile: found no no-such-compiler; expected a C++ compiler")
    assert problems_of("--data.path", image_set) == ""


def test_third_party_shards_without_train_or_with_two_pictures_are_refused(tmp_path: Path) -> None:
    pictures = {f"{i}.png": encode_picture(1, "PNG", (32, 32)) for i in range(16)}
    cache = ("--data.cache_dir", tmp_path / "cache")
    write_tar(tmp_path / "a" / "val-0.tar", pictures)
    found = problems_of("--data.path", tmp_path / "a", *cache)
    assert found.startswith(
        f"data.path: found no train split in {tmp_path / 'a'}, only validate; expected a split named"
    )
    write_tar(tmp_path / "b" / "train-0.tar", pictures | {"0.jpg": encode_picture(1, "JPEG", (32, 32))})
    assert "sample 0: found 2 pictures: 0.png, 0.jpg; expected one picture" in problems_of(
        "--data.path", tmp_path / "b", *cache
    )
    assert problems_of("--data.path", tmp_path / "b", *cache, "--data.image_key", "png") == ""
    assert problems_of("--data.path", tmp_path / "b", *cache, "--data.on_error", "skip") == (
        f"data.global_batch_size: found 16 for 15 samples of train in {tmp_path / 'b'}; expected at most 15: pass "
        "--data.global_batch_size 15, or use more data"
    )


def test_the_ranks_read_the_copy_of_a_node_but_name_the_original(
    image_set: Path, code_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(image_set, copy)
    monkeypatch.setenv("VQDIST_STAGED_DATA", str(copy))
    config = config_of("--data.path", image_set)
    problems, dataset = check_run(config, TASKS[config.task])
    assert dataset is not None, problems
    assert (dataset.path, dataset.folder) == (str(image_set), copy)
    assert capsys.readouterr().err == f"{image_set}: read from {copy}, its copy on this node\n"
    monkeypatch.setenv("VQDIST_STAGED_DATA", str(code_set))
    assert "VQDIST_STAGED_DATA: found" in problems_of("--data.path", image_set)


@pytest.mark.parametrize(
    ("size", "keys", "expected"),
    [
        ([60, 60], (), "shard again with --image-size 64, or pass --model.downsample 4"),
        ([60, 60], ("--model.patch", 4, "--model.fine_layers", 1), "64, or pass --model.downsample 4 --model.patch 2"),
        ([50, 50], (), "a divisor of both sides: shard again with --image-size 48"),
    ],
)
def test_sizes_that_fit_are_proposed(
    image_set: Path, tmp_path: Path, size: list[int], keys: tuple, expected: str
) -> None:
    manifest = json.loads((image_set / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(manifest | {"image_size": size}))
    found = problems_of("--data.path", tmp_path, "--model.downsample", 8, "--data.crop", "null", *keys)
    assert found.splitlines()[0].endswith(expected)
