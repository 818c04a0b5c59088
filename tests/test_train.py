"""The train command: all problems are reported together; a good command gives a run that can be read."""

import json
from pathlib import Path

import pytest
import yaml
from support import SIZE, tiny_flags, write_image_set

from vqdist import train
from vqdist.config.loading import load_config
from vqdist.config.schema import CONFIGS
from vqdist.foundation.command import run_command


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No world_size, whatever the tests themselves were started by, and no end of this process."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    # With WORLD_SIZE above 1 an error would end the process of the tests.
    monkeypatch.setattr("vqdist.foundation.command.end_process", lambda code: code)


def refused(capsys: pytest.CaptureFixture[str], *flags: str | Path) -> str:
    """Run the command, which must end with 2 before anything is written, and return its message."""
    assert run_command(train.main, [str(flag) for flag in flags]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def test_all_problems_of_a_run_come_in_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(
        capsys, "--optim.ln", "1", "--data.path", tmp_path / "nosuch", "--train.precision=fp16", "--run.device", "cuda"
    )
    assert "4 problems" in message
    for part in ("did you mean optim.lr?", "nosuch", "train.precision: found fp16", "run.device: found cuda"):
        assert part in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["word"], "--section.key VALUE"),
        (["--optim.lr"], "found no value"),
        (["--optim.lr", "--train.max_steps", "3"], "--optim.lr: found no value"),
        (["--config", "nosuch"], "one of"),
        (["--model.num_codes", "many"], "model.num_codes: found 'many'; expected int"),
        (["--task", "gan"], "vqvae or pixelcnn"),
        (["--model.layers", "3"], "model.layers is a key of task pixelcnn"),
        (["--run", "foo"], "run: found"),
        (["--run.name="], "run.name: found"),
        (["--run.dir", __file__], "which is a file"),
    ],
)
def test_wrong_words_are_named(capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    message = refused(capsys, *words, "--data.global_batch_size", "0")
    assert "2 problems" in message
    assert part in message


@pytest.mark.parametrize(("flag", "environment"), [("bogus", "online"), (None, "bogus")])
def test_a_wrong_tracking_mode_hides_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str | None, environment: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", environment)
    message = refused(capsys, "--optim.lr", "x", *(["--tracking.mode", flag] if flag else []))
    assert "2 problems" in message
    assert "bogus" in message


def test_a_process_that_is_alone_speaks_whatever_its_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert "optim.lr" in refused(capsys, "--optim.lr", "x")


def test_data_that_does_not_fit_is_named(
    capsys: pytest.CaptureFixture[str], image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    where = ("--run.dir", tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    assert "expected codes for task pixelcnn: made by vqdist encode" in refused(
        capsys, *where, "--task", "pixelcnn", "--data.path", image_set
    )
    assert "expected images for task vqvae: made by vqdist shard" in refused(capsys, *where, "--data.path", code_set)
    assert "no such folder" in refused(capsys, *where, "--data.path", tmp_path / "nosuch")
    assert "empty" in refused(capsys, *where, "--data.path", tmp_path / "empty")
    assert "60 samples of train" in refused(capsys, *where, "--data.path", image_set, "--data.global_batch_size", "61")
    assert not (tmp_path / "runs").exists(), "nothing is made before all is checked"


def test_a_size_that_the_downsampling_does_not_divide_is_refused(
    capsys: pytest.CaptureFixture[str], image_set: Path, tmp_path: Path
) -> None:
    manifest = json.loads((image_set / "dataset.json").read_text())
    assert manifest["image_size"] == [SIZE, SIZE]
    manifest["image_size"] = [SIZE, SIZE + 4]
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    assert f"model.downsample: found 8 for images of {SIZE} x {SIZE + 4}" in refused(
        capsys, "--data.path", tmp_path, "--model.downsample", "8"
    )


def test_codes_of_another_vqvae_are_refused(capsys: pytest.CaptureFixture[str], code_set: Path, tmp_path: Path) -> None:
    manifest = json.loads((code_set / "dataset.json").read_text())
    manifest["vqvae_fingerprint"] = "0" * 64
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    (tmp_path / "vqvae").symlink_to(code_set / "vqvae")
    message = refused(capsys, "--task", "pixelcnn", "--data.path", tmp_path)
    assert "expected VQ-VAE 000000000000, which encoded the dataset" in message


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"WORLD_SIZE": "2"}, "without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
            "ACCELERATE_USE_CPU=true",
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "4 tasks and no WORLD_SIZE"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "four"}, "SLURM_NTASKS: found 'four'; expected a whole number"),
        ({"WORLD_SIZE": "x", "RANK": ""}, "2 problems\n  - WORLD_SIZE: found 'x'; expected a whole number\n  - RANK"),
    ],
)
def test_a_world_that_accelerate_does_not_see_is_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    image_set: Path,
    environment: dict[str, str],
    part: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert part in refused(capsys, "--data.path", image_set)


def test_a_global_batch_smaller_than_the_world_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image_set: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "9")
    assert "8 samples for 9 ranks" in refused(capsys, "--data.path", image_set, "--data.global_batch_size", "8")


@pytest.fixture(scope="module")
def finished(image_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 6 steps."""
    runs = tmp_path_factory.mktemp("runs")
    flags = [*tiny_flags(), "--data.path", str(image_set), "--run.dir", str(runs), "--run.name", "done"]
    assert run_command(train.main, [*flags, "--train.max_steps", "6", "--train.eval_every", "3"]) == 0
    return runs / "done"


def flags_of(run: Path) -> list[str]:
    return ["--config", str(run / "config.yaml"), "--run.dir", str(run.parent)]


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    validate = [line for line in lines if line["split"] == "validate"]
    assert [line["step"] for line in validate] == [3, 6]
    assert all({"loss", "ssim", "psnr", "perplexity", "codes_used", "perf"} <= line.keys() for line in validate)
    trained = [line for line in lines if line["split"] == "train"]
    assert trained[-1]["step"] == 6
    assert trained[-1]["samples"] == 48
    assert json.loads((finished / "status.json").read_text())["state"] == "finished"
    assert yaml.safe_load((finished / "config.yaml").read_text())["optim"]["decay_steps"] == 6
    assert {"COMMIT.json", "state.json", "model.safetensors"} <= {
        path.name for path in (finished / "checkpoints" / "step-00000006").iterdir()
    }
    best = min(validate, key=lambda line: line["loss"])
    assert json.loads((finished / "model" / "config.json").read_text())["step"] == best["step"]


def test_every_json_file_of_a_run_ends_with_a_newline(finished: Path) -> None:
    found = {path.name: path.read_bytes() for path in finished.rglob("*.json")}
    assert {"status.json", "owner.json", "config.json", "state.json", "COMMIT.json"} <= found.keys()
    assert [name for name, content in found.items() if not content.endswith(b"}\n")] == []


def test_a_finished_run_started_again_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listing() -> dict[str, bytes]:
        # W&B's core closes its own logs when the run is over already.
        own = {*finished.rglob("debug-core.log"), *finished.rglob("core-debug-*.log")}
        return {str(path): path.read_bytes() for path in finished.rglob("*") if path.is_file() and path not in own}

    before = listing()
    assert run_command(train.main, flags_of(finished)) == 0
    assert listing() == before
    assert "nothing to do" in capsys.readouterr().err


def test_keys_that_decide_the_result_may_not_change(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(
        capsys, *flags_of(finished), "--optim.lr", "0.5", "--model.num_codes", "32", "--run.seed", "7",
        "--train.log_every", "3",
    )  # fmt: skip
    assert "3 problems" in message
    for part in ("this run uses model.num_codes 16, which cannot change; you gave 32", "optim.lr", "run.seed"):
        assert part in message


def test_never_on_a_used_directory_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "which contains a run" in refused(capsys, *flags_of(finished), "--checkpoint.resume", "never")


def test_weights_of_another_run_start_a_new_one_unless_they_do_not_fit(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new = [*flags_of(finished), "--run.dir", str(tmp_path), "--run.name", "new", "--train.max_steps", "2"]
    weights = finished / "checkpoints" / "step-00000006"
    message = refused(capsys, *new, "--checkpoint.resume", weights, "--model.hidden", "10")
    assert "decoder.mix.weight" in message
    assert "another architecture" in message or "expected shape" in message
    assert run_command(train.main, [*new, "--run.name", "newer", "--checkpoint.resume", str(weights)]) == 0


def test_max_steps_may_grow_and_the_schedule_stays(image_set: Path, tmp_path: Path) -> None:
    flags = [*tiny_flags(), "--data.path", str(image_set), "--run.dir", str(tmp_path), "--run.name", "more"]
    assert run_command(train.main, [*flags, "--train.max_steps", "3"]) == 0
    assert run_command(train.main, [*flags, "--train.max_steps", "5"]) == 0
    assert json.loads((tmp_path / "more" / "status.json").read_text())["step"] == 5
    assert yaml.safe_load((tmp_path / "more" / "config.yaml").read_text())["optim"]["decay_steps"] == 3


def test_the_first_start_settles_the_precision(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*tiny_flags(), "--data.path", str(image_set), "--run.dir", str(tmp_path), "--run.name", "open"]
    flags += ["--train.precision", "auto"]
    for chosen, steps in ("fp32", 2), ("bf16", 4):
        monkeypatch.setattr("vqdist.training.resolve.choose_precision", lambda device, chosen=chosen: chosen)
        assert run_command(train.main, [*flags, "--train.max_steps", str(steps)]) == 0
        assert yaml.safe_load((tmp_path / "open" / "config.yaml").read_text())["train"]["precision"] == "fp32"
    assert json.loads((tmp_path / "open" / "status.json").read_text())["step"] == 4
    flags[-1] = "bf16"
    assert run_command(train.main, [*flags, "--train.max_steps", "6"]) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_a_stop_asked_for_exits_with_75_and_goes_on(tmp_path: Path, channels: int) -> None:
    data = write_image_set(tmp_path / "data", channels=channels)
    flags = [*tiny_flags(), "--data.path", str(data), "--run.dir", str(tmp_path), "--run.name", "stops"]
    assert run_command(train.main, [*flags, "--train.stop_at_step", "4"]) == 75
    status = json.loads((tmp_path / "stops" / "status.json").read_text())
    assert (status["state"], status["step"]) == ("stopped", 4)
    assert run_command(train.main, flags) == 0
    lines = (tmp_path / "stops" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if json.loads(line)["split"] == "train"]
    assert steps == sorted(set(steps))


def test_shipped_configurations_name_no_code_map() -> None:
    for path in CONFIGS.glob("pixelcnn_*.yaml"):
        model = yaml.safe_load(path.read_text())["model"]
        assert not model.keys() & {"num_codes", "grid", "num_labels", "num_slices"}


def test_the_configuration_is_printed_and_nothing_else_happens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--config", "vqvae_debug", "--run.dir", str(tmp_path / "runs"), "--optim.lr", "0.5", "--print-config"]
    assert run_command(train.main, words) == 0
    (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
    expected, _ = load_config("vqvae_debug", [("run.dir", str(tmp_path / "runs")), ("optim.lr", "0.5")])
    assert load_config(tmp_path / "again.yaml", []) == (expected, [])
    assert [path.name for path in tmp_path.iterdir()] == ["again.yaml"]
    assert "optim.lrr: found an unknown key" in refused(capsys, *words, "--optim.lrr", "1")


@pytest.mark.parametrize(("flag", "expected"), [("--lr", "optim.lr"), ("--batch-size", "data.global_batch_size")])
def test_the_words_of_other_programs_are_understood(
    capsys: pytest.CaptureFixture[str], flag: str, expected: str
) -> None:
    assert f"did you mean --{expected}?" in refused(capsys, flag, "1", "--optim.ln", "1")
