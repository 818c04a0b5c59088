"""Losses and gradients that are not finite: all ranks skip the step, and too many in a row are an error."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import QUIET, Ended, read_metrics, read_records, start, tiny_flags
from support.faulty_training import train_with_nonfinite_steps

from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks


def run_with_faults(data: Path, tmp_path: Path, name: str, *fault: Any, ranks: int, flags: tuple[object, ...]) -> Ended:
    fixed = [*QUIET, *tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--run.name", name, *flags]
    (tmp_path / f"{name}-state").mkdir(exist_ok=True)
    words = [str(word) for word in (*fixed, "--data.ledger", "true", "--checkpoint.every_steps", 1)]
    with start(train_with_nonfinite_steps, words, str(tmp_path / f"{name}-state"), *fault, ranks=ranks) as started:
        return started.wait()


def read_states(tmp_path: Path, name: str, ranks: int) -> list[dict[str, Any]]:
    return [json.loads((tmp_path / f"{name}-state" / f"rank-{rank}.json").read_text()) for rank in range(ranks)]


@pytest.mark.parametrize("kind", ["images", "gradient", pytest.param("loss", marks=pytest.mark.long)])
def test_a_bad_step_of_one_rank_changes_nothing_on_any(kind: str, image_set: Path, tmp_path: Path) -> None:
    """Step 4 restarts codes, so that their candidates are not finite either."""
    flags = ("--model.restart_every", 4, "--optim.weight_ema", 0.9, "--train.max_steps", 6, "--train.log_every", 1)
    flags += ("--data.micro_batch_size", 2, "--checkpoint.keep", 9)
    for last in (4, 6):  # the stop at step 4 writes a checkpoint between two such steps
        more = (*flags, "--train.stop_at_step", last)
        ended = run_with_faults(image_set, tmp_path, kind, kind, [3, 4], 1, ranks=2, flags=more)
        assert ended.code == (75 if last == 4 else 0), ended.describe()
    tensors = {path.name: load_checkpoint(path)[0] for path in list_checkpoints(tmp_path / kind / "checkpoints")}
    for name in ("model", "optimizer", "weight_ema"):
        before, after, later = (tensors[f"step-0000000{step}"][name] for step in (2, 4, 6))
        assert all(before[key].equal(after[key]) for key in before), "a skipped step changed the state"
        assert not all(after[key].equal(later[key]) for key in before)
        assert all(value.isfinite().all() for value in later.values())
    state = read_states(tmp_path, kind, 2)
    assert state[0] == state[1]
    assert (state[0]["progress"]["bad_steps"], state[0]["progress"]["bad_in_row"]) == (2, 0)
    lines = [line for line in read_metrics(tmp_path / kind) if line["split"] == "train"]
    assert [line["bad_steps"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert ["loss" in line for line in lines] == [True, True, False, False, True, True]
    for rank in range(2):
        ledger = read_records(tmp_path / kind / "ledger" / f"rank-{rank}.jsonl")
        assert [len(line["keys"]) for line in ledger] == [4, 4, 0, 0, 4, 4]
        assert [len(line.get("not_finite", [])) for line in ledger] == [0, 0, 4, 4, 0, 0]


def test_too_many_in_a_row_return_to_the_checkpoint_once_and_then_fail(image_set: Path, tmp_path: Path) -> None:
    flags = ("--train.max_bad_steps", 3)
    bad = [*range(7, 100)]
    ended = run_with_faults(image_set, tmp_path, "hopeless", "loss", bad, 0, ranks=2, flags=flags)
    assert ended.codes == [1, 1], ended.describe()
    assert "3 consecutive steps up to step 9 were not finite: back to the checkpoint of step 6" in ended.logs[0]
    assert "again after returning to a checkpoint: lower optim.lr, or use fp32" in ended.logs[0]
    assert "Traceback" not in ended.describe()
    assert json.loads((tmp_path / "hopeless" / "status.json").read_text())["state"] == "failed"


def test_a_temporary_fault_costs_no_sample(image_set: Path, tmp_path: Path) -> None:
    """After the return to the checkpoint the same steps are trained again, and the records have them once."""
    flags = ("--train.max_bad_steps", 3, "--train.max_steps", 12, "--train.log_every", 1)
    clean = run_with_faults(image_set, tmp_path, "clean", "loss", [], 0, ranks=2, flags=flags)
    ended = run_with_faults(image_set, tmp_path, "recovered", "loss", [7, 8, 9], 0, 3, ranks=2, flags=flags)
    assert clean.code == ended.code == 0, ended.describe()
    assert "back to the checkpoint of step 6" in ended.logs[0]
    state, wanted = read_states(tmp_path, "recovered", 2), read_states(tmp_path, "clean", 2)
    assert state[0] == state[1]
    assert state[0]["model"] == wanted[0]["model"]
    assert state[0]["optimizer"] == wanted[0]["optimizer"]
    for rank in range(2):
        ledgers = [tmp_path / name / "ledger" / f"rank-{rank}.jsonl" for name in ("recovered", "clean")]
        assert read_records(ledgers[0]) == read_records(ledgers[1])
