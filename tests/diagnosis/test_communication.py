"""Checks between ranks, on two real processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import on_ranks

from vqdist.diagnosis import communication
from vqdist.diagnosis.communication import check_all_reduce, check_communication, check_shared_files
from vqdist.distributed.process_group import Ranks, init_process_group

CPU = torch.device("cpu")


def check_on_rank(run_dir: str) -> list[list[Any]]:
    checks = check_communication(Path(run_dir), init_process_group("cpu"), 1.5)
    return [[check.name, check.state, check.found, check.figures] for check in checks]


@pytest.mark.ranks
def test_two_ranks_that_share_a_folder(tmp_path: Path) -> None:
    for checks in on_ranks(check_on_rank, str(tmp_path / "runs"), ranks=2):
        assert [name for name, *_ in checks] == ["ranks", "all-reduce", "shared files"]
        assert {state for _, state, *_ in checks} == {"ok"}
        assert checks[0][2:] == ["2 on 1 host joined in 1.5 s, cpu", {"ranks": 2.0, "rendezvous_s": 1.5}]
        assert checks[1][3]["all_reduce_bytes_per_s"] > 0
        assert checks[2][2].startswith(f"{tmp_path} is the same on all ranks")
    assert list(tmp_path.iterdir()) == []


def test_wrong_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "barrier", lambda ranks: None)
    for total, state in ((2.0, "ok"), (1.0, "fix")):
        monkeypatch.setattr(Ranks, "all_reduce", lambda ranks, tensor, total=total: tensor.fill_(total))
        check = check_all_reduce(Ranks(0, 2, 0, CPU))
        assert check.state == state
    assert check.found == "1.0 instead of 2"
    assert check_all_reduce(Ranks(0, 1, 0, CPU)).state == "ok"


@pytest.mark.parametrize(
    ("view_of_rank_1", "state", "found"),
    [
        ((False, 1000.0, "node2"), "fix", "{} of rank 0 is another folder on node2"),
        ((True, 1003.0, "node2"), "note", "{} is the same on all ranks, clocks within 3.00 s"),
        ((True, 1001.0, "node2"), "ok", "{} is the same on all ranks, clocks within 1.00 s"),
    ],
)
def test_folder_and_clock_of_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, view_of_rank_1: tuple[bool, float, str], state: str, found: str
) -> None:
    monkeypatch.setattr(communication.time, "time", lambda: 1000.0)
    monkeypatch.setattr(Ranks, "barrier", lambda ranks: None)
    monkeypatch.setattr(Ranks, "broadcast_object", lambda ranks, value: value)
    monkeypatch.setattr(Ranks, "gather_objects", lambda ranks, value: [value, view_of_rank_1])
    check = check_shared_files(tmp_path, Ranks(0, 2, 0, CPU))
    assert (check.state, check.found) == (state, found.format(tmp_path))
    assert list(tmp_path.iterdir()) == []
