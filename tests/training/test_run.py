"""How a start ends: status.json tells it, also where the loop was never reached."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny_flags, train

from vqdist.foundation.errors import CheckpointError
from vqdist.foundation.run_status import read_status
from vqdist.models.io import load_model


def block_ledger(run: Path, other: Path) -> None:
    (run / "ledger").touch()


def swap_checkpoint(run: Path, other: Path) -> None:
    (run / "checkpoints").rename(run / "aside")
    (run / "checkpoints").symlink_to(other / "checkpoints")


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("break_it", "flags", "code", "message"),
    [
        (block_ledger, ("--data.ledger", "true"), 1, "run cannot be written"),
        (swap_checkpoint, (), 2, "shape"),
    ],
)
def test_a_start_that_fails_before_its_first_step_says_so(
    image_set: Path, tmp_path: Path, break_it: Callable[[Path, Path], None], flags: tuple[str], code: int, message: str
) -> None:
    words = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--train.stop_at_step", 5]
    for name, hidden in (("run", 8), ("other", 12)):
        assert train(*words, "--run.name", name, "--model.hidden", hidden, check=False).code == 75
    break_it(tmp_path / "run", tmp_path / "other")
    ended = train(*words, "--run.name", "run", *flags, "--train.stop_at_step", 10, check=False)
    assert ended.code == code
    assert message in ended.logs[0]
    status = read_status(tmp_path / "run")
    assert (status["state"], status["step"]) == ("failed", 5)
    assert message in status["error"]


@pytest.mark.ranks
def test_a_new_run_that_failed_at_step_0_is_trained_by_the_same_command(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--run.name", "run"]
    words += ["--data.ledger", "true", "--train.stop_at_step", 2]
    run = tmp_path / "run"
    run.mkdir()
    (run / "ledger").touch()
    ended = train(*words, check=False)
    assert (ended.code, read_status(run)["state"], read_status(run)["step"]) == (1, "failed", 0)
    assert " next " not in ended.logs[0]
    with pytest.raises(CheckpointError, match=r"its training failed at step 0 .*run the same train command again"):
        load_model(run)
    (run / "ledger").unlink()
    assert train(*words, check=False).code == 75
    assert (read_status(run)["state"], "error" in read_status(run)) == ("stopped", False)
