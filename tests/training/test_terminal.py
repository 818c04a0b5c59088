"""What a person sees: a bar that fits its window, lines in a log, a summary with the next command."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from vqdist.foundation import progress
from vqdist.training.terminal import TrainingTerminal, choose_codes_folder, describe_metrics

PROGRAM = """
import sys, time
from pathlib import Path
from vqdist.training.terminal import TrainingTerminal
terminal = TrainingTerminal(
    Path(sys.argv[1]), task="vqvae", data_path="data", first_step=0, last_step=40, shown=True
)
for step in range(1, 41):
    time.sleep(0.01)
    terminal.advance(step)
    if step % 5 == 0:
        terminal.log({"step": step, "split": "train", "loss": 1 / step, "perf": {"samples_per_s": 123.4}})
    if step % 20 == 0:
        terminal.log({"step": step, "split": "validate", "loss": 1 / step, "ssim": 0.9, "perf": {}})
terminal.close("finished")
"""


def build(run_dir: Path, **settings: Any) -> TrainingTerminal:
    given = {"task": "vqvae", "data_path": "s3://bucket/some data", "first_step": 0, "last_step": 100, "shown": True}
    return TrainingTerminal(run_dir, **given | settings)


def line(step: int, split: str, loss: float, **metrics: float) -> dict[str, object]:
    return {"step": step, "samples": step, "split": split, "loss": loss, **metrics, "perf": {"samples_per_s": 12.3}}


def run_on_terminal(run_dir: Path, columns: int) -> str:
    """Run the program on a terminal of its own and return what it wrote there."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (30, columns))
    # Nothing of what this process was started with: a person's terminal knows no launcher and no CI.
    environ = {"PATH": os.environ["PATH"], "HOME": str(run_dir.parent), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(run_dir)], stderr=follower, stdout=follower, env=environ
    ) as process:
        os.close(follower)
        written = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            written += piece
        assert process.wait() == 0
    os.close(leader)
    return written.decode()


@pytest.mark.parametrize("columns", [50, 140])
def test_the_bar_fits_its_window(tmp_path: Path, columns: int) -> None:
    shown = run_on_terminal(tmp_path / "demo", columns)
    bars = [text for text in shown.replace("\n", "\r").split("\r") if "/40, " in text]
    assert bars, shown
    assert max(len(text) for text in bars) <= columns
    assert any("loss" in text for text in bars)
    if columns == 50:
        assert any(text.startswith("demo  50%, 20/40, loss 0.05") for text in bars)
    else:
        assert any("SSIM 0.9" in text and "images/s" in text for text in bars)
    # The bar is gone at the end, and the lines above it are whole.
    assert "demo: step 20, validate: loss 0.05, SSIM 0.9\r\n" in shown
    assert "demo: finished at step 40" in shown.replace("\r\n", "\r").split("\r")[-5]


def test_a_log_gets_lines_and_no_bar(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "STEADY_S", 0.0)
    terminal = build(tmp_path / "demo", first_step=50)
    terminal.advance(51)
    monkeypatch.setattr(progress, "NEXT_LINE_S", 0.0)
    capfd.readouterr()
    terminal.log(line(60, "train", 0.25))
    monkeypatch.setattr(progress, "NEXT_LINE_S", 1000.0)
    terminal.log(line(60, "validate", 0.5, ssim=0.87654))
    terminal.close("stopped")
    written = capfd.readouterr().err
    assert "\r" not in written
    first, second, *_ = written.splitlines()
    assert first.startswith("demo: 60 of 100 steps (60%)")
    assert "left, loss 0.25, 12.3 images/s" in first
    assert second == "demo: step 60, validate: loss 0.5, SSIM 0.8765"


def test_the_first_loss_is_in_a_log_after_ten_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = build(tmp_path / "demo", first_step=50)
    for step in range(51, 70):
        terminal.show_loss(step / 100)
        terminal.advance(step)
    (written,) = capfd.readouterr().err.splitlines()
    assert written.startswith("demo: 60 of 100 steps (60%), ")
    assert written.endswith(", loss 0.6")
    terminal.log(line(69, "validate", 0.5, ssim=0.75))
    assert terminal._progress.note == "loss 0.69, SSIM 0.75"
    terminal.log(line(70, "train", 0.25))
    terminal.show_loss(0.9)
    assert terminal._progress.note == "loss 0.25, SSIM 0.75, 12.3 images/s"
    terminal.close("stopped")


def test_a_first_loss_that_is_not_finite_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = build(tmp_path / "demo")
    for step in range(1, 11):
        terminal.show_loss(None)
        terminal.advance(step)
    assert capfd.readouterr().err.rstrip().endswith(", loss not finite")


def test_lines_of_a_log_grow_apart(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.ProgressBar(100_000, unit="steps", label="train") as shown:
        for _ in range(100_000):
            clock[0] += 1.0
            shown.advance()
    lines = capfd.readouterr().err.splitlines()
    assert 60 < len(lines) < 100
    assert lines[-1] == "train: 100,000 steps, in 1 d 03 h, 1 steps/s"


def test_other_ranks_are_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = build(tmp_path, shown=False)
    terminal.log(line(10, "validate", 0.5))
    terminal.close("finished")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("environment", "on_cpu", "launcher"),
    [
        ({}, False, "vqdist "),
        ({"WORLD_SIZE": "2", "RANK": "0"}, False, "accelerate launch -m vqdist."),
        ({"ACCELERATE_MIXED_PRECISION": "no"}, False, "accelerate launch -m vqdist."),
        ({"WORLD_SIZE": "2", "RANK": "0", "ACCELERATE_MIXED_PRECISION": "no"}, True, "vqdist "),
    ],
)
def test_the_summary_tells_the_best_and_the_next_command(
    environment: dict[str, str], on_cpu: bool, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run_dir = tmp_path / "my run"
    (run_dir / "model").mkdir(parents=True)
    terminal = build(run_dir, on_cpu=on_cpu)
    terminal.log(line(40, "validate", 0.2, ssim=0.95))
    terminal.log(line(100, "validate", 0.3, ssim=0.9))
    first, *rest = terminal.summarize("finished")
    assert first.startswith("my run: finished at step 100, 100 steps in ")
    assert rest[0] == "  validate  loss 0.3, SSIM 0.9"
    assert rest[1] == "  best      step 40: loss 0.2, SSIM 0.95"
    assert rest[2] == f"  model     {run_dir / 'model'}"
    assert rest[3].startswith(f"  next      {launcher}evaluate --run '{run_dir}' --data 's3://bucket/some data'")
    assert f"{launcher}encode --run" in rest[4]
    terminal.close("finished")


@pytest.mark.parametrize(
    ("task", "state", "expected"),
    [("vqvae", "stopped", "vqdist train"), ("vqvae", "finished", "vqdist encode"), ("pixelcnn", "finished", "sample")],
)
def test_the_next_command_follows_from_task_and_state(tmp_path: Path, task: str, state: str, expected: str) -> None:
    terminal = build(tmp_path, task=task, shown=False)
    assert any(expected in command for command in terminal.propose_commands(state))


def test_the_codes_are_named_by_the_run(tmp_path: Path) -> None:
    data, run_dir = tmp_path / "data" / "mine", tmp_path / "runs" / "second"
    data.mkdir(parents=True)
    assert choose_codes_folder(run_dir, f"{data}/") == tmp_path / "data" / "second-codes"
    for elsewhere in ("s3://bucket/mine", f"{data}/train-{{000..003}}.tar"):
        assert choose_codes_folder(run_dir, elsewhere) == tmp_path / "runs" / "second-codes"
    terminal = TrainingTerminal(run_dir, task="vqvae", data_path=str(data), first_step=0, last_step=9, shown=False)
    assert terminal.propose_commands("finished")[1].endswith(f" --out {tmp_path / 'data' / 'second-codes'}")


def test_data_without_a_validate_split_are_evaluated_on_train(tmp_path: Path) -> None:
    for task, place in (("vqvae", 0), ("pixelcnn", 1)):
        facts = {"task": task, "data_path": "data", "first_step": 0, "last_step": 9, "shown": False}
        for has_validate in (True, False):
            terminal = TrainingTerminal(tmp_path / "run", **facts, has_validate=has_validate)
            assert terminal.propose_commands("finished")[place].endswith(" --split train") is not has_validate


def test_a_stopped_run_names_its_checkpoint(tmp_path: Path) -> None:
    terminal = build(tmp_path / "run", shown=False)
    terminal.advance(1)
    first, second, *_ = terminal.summarize("stopped")
    assert first.startswith("run: stopped at step 1, 1 step in ")
    assert second.startswith("  next "), "there is no checkpoint"
    for step in (2, 13):
        (tmp_path / "run" / "checkpoints" / f"step-{step:08}").mkdir(parents=True)
    resumes = f"  resumes   from the checkpoint {tmp_path / 'run' / 'checkpoints' / 'step-00000013'}"
    for state, is_named in (("stopped", True), ("failed", True), ("finished", False)):
        assert (resumes in terminal.summarize(state)) is is_named


def test_a_run_that_another_process_continues_has_no_next_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000005").mkdir(parents=True)
    (run / "checkpoints" / "step-00000005" / "COMMIT.json").touch()
    (only,) = build(run).summarize("taken over")
    assert only.startswith("run: taken over at step 0")


def test_a_failed_run_has_a_next_command_only_with_a_checkpoint(tmp_path: Path) -> None:
    terminal = build(tmp_path / "run", shown=False)
    assert not any(" next " in line for line in terminal.summarize("failed"))
    (tmp_path / "run" / "checkpoints" / "step-00000002").mkdir(parents=True)
    assert any(" next " in line for line in terminal.summarize("failed"))


def test_the_next_commands_are_those_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/mine").mkdir(parents=True)
    facts = {"data_path": "data/mine", "first_step": 0, "last_step": 9, "shown": False}
    vqvae = TrainingTerminal(Path("runs/mine"), task="vqvae", **facts)
    prior = TrainingTerminal(Path("runs/mine-prior"), task="pixelcnn", **facts)
    assert vqvae.propose_commands("finished") == [
        "vqdist evaluate --run runs/mine",
        "vqdist encode --run runs/mine --data data/mine --out data/mine-codes",
    ]
    assert prior.propose_commands("finished") == [
        "vqdist sample --prior runs/mine-prior --num 64 --out samples",
        "vqdist evaluate --run runs/mine-prior --samples samples",
    ]
    volumes = TrainingTerminal(Path("runs/mine-prior"), task="pixelcnn", **facts, draws_volumes=True)
    assert volumes.propose_commands("finished")[0] == (
        "vqdist sample --prior runs/mine-prior --volumes 4 --out samples"
    )
    Path("samples").mkdir()
    assert prior.propose_commands("finished")[0].endswith(" --out runs/mine-prior-samples")


def test_a_run_that_was_told_where_to_stop_is_told_to_go_on(tmp_path: Path) -> None:
    terminal = build(tmp_path, shown=False)
    terminal.advance(60)
    assert terminal.propose_commands("stopped")[0].endswith("config.yaml")
    terminal.advance(100)
    assert terminal.propose_commands("stopped")[0].endswith("config.yaml --train.stop_at_step null")


def test_a_run_that_went_back_counts_on_from_there(tmp_path: Path) -> None:
    terminal = build(tmp_path, shown=False)
    terminal.advance(30)
    terminal.advance(20)
    terminal.advance(21)
    assert terminal._progress.done == 21


def test_a_loss_that_is_not_finite_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = build(tmp_path / "demo")
    for step, loss in ((20, None), (40, 0.5), (60, None)):
        terminal.log({**line(step, "train", 0.0), "loss": loss})
        terminal.log({**line(step, "validate", 0.0), "loss": loss, "ssim": None})
    lines = terminal.summarize("failed")
    assert lines[1] == "  validate  loss not finite"
    assert lines[2] == "  best      step 40: loss 0.5"
    terminal.close("failed")
    assert "demo: step 20, validate: loss not finite\n" in capfd.readouterr().err


def test_metrics_read_as_people_say_them() -> None:
    record = line(1, "validate", 1.23456, bits_per_code=3.14159, codes_used=17)
    assert describe_metrics(record) == "loss 1.235, bits per code 3.142, codes used 17"
