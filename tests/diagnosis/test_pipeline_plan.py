"""The chain of jobs of slurm/pipeline.sh is checked stage by stage."""

import io
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vqdist.diagnosis.pipeline_plan import Stage, check_stage, count_ranks, main, parse_stage

TRAIN, COMMAND = "/a b/slurm/train.sbatch", "/a b/slurm/command.sbatch"


def chain(name: str, *words: object, flags: str = "") -> str:
    """Return a line of the chain, as slurm/pipeline.sh prints it."""
    return f"{name}: sbatch --parsable {flags} {shlex.join(map(str, words))}"


def train_line(out: Path, *flags: object, sbatch_flags: str = "") -> str:
    fixed = ("--run.dir", out, "--run.name", "vqvae", "--data.path", out / "slices", "--tracking.mode", "disabled")
    return chain("vqvae", TRAIN, "--config", "vqvae_debug", *fixed, *flags, flags=sbatch_flags)


def run_main(monkeypatch: pytest.MonkeyPatch, out: Path, *lines: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    return main([str(out)])


def test_a_line_is_parsed_to_a_stage() -> None:
    line = (
        "shard: env -u SBATCH_GPUS_PER_NODE sbatch --time=5 '/a b/slurm/command.sbatch' vqdist.shard demo '/o u/slices'"
    )
    assert parse_stage(line) == Stage("shard", ["--time=5"], "shard", ["demo", "/o u/slices"])
    assert parse_stage(chain("vqvae", TRAIN, "--optim.lr", 1)) == Stage(
        "vqvae", ["--parsable"], "train", ["--optim.lr", "1"]
    )
    assert parse_stage("shard: done") is None
    assert parse_stage("vqvae: job 7 is queued or running") is None


@pytest.mark.parametrize(
    ("flags", "environ", "ranks"),
    [
        ("", {}, 1),
        ("--nodes=2", {}, 2),
        ("-N 3", {}, 3),
        ("--nodes=2 --ntasks-per-node=4", {}, 8),
        ("--nodes 2 --gpus-per-node a100:4", {}, 8),
        ("-N2 --gres=gpu:a100:3", {}, 6),
        ("--nodes=2 -n 5", {}, 5),
        ("--gpus=6", {}, 6),
        ("-G4", {}, 4),
        ("--nodes=2", {"SBATCH_GPUS_PER_NODE": "4"}, 8),
        ("--nodes=2", {"SBATCH_GRES": "gpu:2"}, 4),
        ("--nodes=2 --ntasks-per-node=1", {"SBATCH_GPUS_PER_NODE": "4"}, 2),
        ("--gres=lustre:1", {"SBATCH_GPUS": "8"}, 8),
    ],
)
def test_ranks_are_counted_as_the_job_starts_them(flags: str, environ: dict[str, str], ranks: int) -> None:
    assert count_ranks(flags.split(), environ) == ranks


def test_files_of_earlier_stages_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    lines = [
        chain("shard", COMMAND, "vqdist.shard", "demo", out / "slices"),
        train_line(out),
        chain(
            "encode", COMMAND, "vqdist.encode", "--run", out / "vqvae", "--data", out / "slices", "--out", out / "codes"
        ),
        "evaluate-vqvae: done",
        chain("sample", COMMAND, "vqdist.sample", "--prior", out / "pixelcnn", "--out", out / "samples"),
    ]
    assert run_main(monkeypatch, out, *lines) == 0
    table = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in table] == [[name, "ok"] for name in ("shard", "vqvae", "encode", "sample")]
    assert not out.exists()


def test_every_problem_of_every_stage_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    lines = [
        chain("shard", COMMAND, "vqdist.shard", tmp_path / "none", out / "slices", "--imagesize", 64),
        train_line(out, "--optim.learning_rate", 1, "--model.hidden", "wide"),
        chain("pixelcnn", TRAIN, "--config", tmp_path / "none.yaml", "--data.path", out / "codes"),
        chain("evaluate", COMMAND, "vqdist.evaluate", "--run", out / "vqvae", "--data", tmp_path / "gone"),
    ]
    assert run_main(monkeypatch, out, *lines) == 2
    table = capsys.readouterr().err
    assert "\npixelcnn  fix   configuration: " in table
    assert {line[:16] for line in table.splitlines() if "->" not in line} == {
        f"{name:<8}  fix   " for name in ("shard", "vqvae", "pixelcnn", "evaluate")
    }
    for found in ("--imagesize: an unknown option", "optim.learning_rate: an unknown key", "model.hidden: 'wide'"):
        assert found in table
    for path in ("none.yaml", "gone"):
        assert str(tmp_path / path) in table


def test_ranks_and_samples_are_compared_with_the_batch(image_set: Path, tmp_path: Path) -> None:
    def problems(*flags: object, sbatch_flags: str = "") -> str:
        stage = parse_stage(train_line(tmp_path, *flags, sbatch_flags=sbatch_flags))
        assert stage is not None
        return "; ".join(check.found for check in check_stage(stage, tmp_path) if check.state == "fix")

    batch = ("--data.global_batch_size", 8)
    assert problems(*batch, sbatch_flags="--nodes=2 --gpus-per-node=4") == ""
    found = problems(*batch, sbatch_flags="--nodes=3 --gpus-per-node=4")
    assert found == "start: data.global_batch_size: 8 samples for 12 ranks"
    shutil.copytree(image_set, tmp_path / "slices")
    assert problems(*batch) == ""
    assert "61 for 60 samples of train" in problems("--data.global_batch_size", 61)


def find_shard_problems(out: Path, source: Path, *flags: object) -> list[str]:
    """Return what to fix in a stage that shards a source to OUT/slices."""
    stage = parse_stage(chain("shard", COMMAND, "vqdist.shard", source, out / "slices", *flags))
    assert stage is not None
    return [check.found.removeprefix("arguments: ") for check in check_stage(stage, out) if check.state == "fix"]


def save_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("L", (6, 4), number).save(folder / f"subject_{number}_slice_1.png")


def test_a_source_is_checked_as_shard_checks_it(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    assert find_shard_problems(out, source) == [f"{source}: no such folder"]
    source.mkdir()
    assert find_shard_problems(out, source) == [f"{source}: an empty folder"]
    (source / "notes.txt").write_text("no picture")
    assert find_shard_problems(out, source) == [f"{source}: 1 file, such as notes.txt"]
    save_pictures(source / "a", 2)
    (found,) = find_shard_problems(out, source)
    assert found.startswith("--split: 2 subjects for 3 shares above zero")
    assert find_shard_problems(out, source, "--split", 1, 0, 0) == []
    save_pictures(tmp_path / "enough", 3)
    assert find_shard_problems(out, tmp_path / "enough") == []
    assert not out.exists()


def test_an_output_folder_with_files_is_named(tmp_path: Path) -> None:
    save_pictures(tmp_path / "source", 3)
    save_pictures(tmp_path / "slices", 1)
    (found,) = find_shard_problems(tmp_path, tmp_path / "source")
    assert found == f"OUT {tmp_path / 'slices'}: a folder that is not empty"
    assert find_shard_problems(tmp_path, tmp_path / "source", "--overwrite") == []
