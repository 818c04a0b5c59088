"""Checks between ranks, on two real processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import on_ranks

from vqdist.diagnosis import communication
from vqdist.diagnosis.communication import check_all_reduce, check_communication, check_shared_files
from vqdist.distributed.process_group import Ranks, start_ranks

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def check_on_rank(run_dir: str) -> list[list[Any]]:
    checks = check_communication(Path(run_dir), start_ranks("cpu"), 1.5)
    return [[check.name, check.state, check.found, check.figures] for check in checks]


@pytest.mark.ranks
def test_two_ranks_that_share_a_folder(tmp_path: Path) -> None:
    for checks in on_ranks(check_on_rank, str(tmp_path / "runs"), ranks=2):
        assert [name for name, *_ in checks] == ["ranks", "all-reduce", "shared files"]
        assert {state for _, state, *_ in checks} == {"ok"}
        assert checks[0][2:] == ["2 on 1 hosts joined in 1.5 s, cpu", {"ranks": 2.0, "rendezvous_s": 1.5}]
        assert checks[1][3]["all_reduce_bytes_per_s"] > 0
        assert checks[2][2].startswith(f"{tmp_path} is the same on all ranks")
    assert list(tmp_path.iterdir()) == []


class TwoRanks(Ranks):
    """Rank 0 of two, whose other rank answers what a test sets."""

    other: Any = None
    summed: float = 2.0

    def barrier(self) -> None:
        pass

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.fill_(self.summed)

    def gather_objects(self, value: Any) -> list[Any]:
        return [value, self.other]

    def broadcast_object(self, value: Any) -> Any:
        return value


def test_wrong_sum_is_found() -> None:
    ranks = TwoRanks(0, 2, 0, torch.device("cpu"))
    assert check_all_reduce(ranks).state == "ok"
    object.__setattr__(ranks, "summed", 1.0)
    check = check_all_reduce(ranks)
    assert (check.state, check.found) == ("fix", "1.0 instead of 2")
    assert check_all_reduce(ALONE).state == "ok"


def test_hosts_without_the_folder_and_wrong_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(communication.time, "time", lambda: 1000.0)
    ranks = TwoRanks(0, 2, 0, torch.device("cpu"))
    object.__setattr__(ranks, "other", (False, 1000.0, "node2"))
    check = check_shared_files(tmp_path, ranks)
    assert (check.state, check.found) == ("fix", f"{tmp_path} of rank 0 is another folder on node2")
    object.__setattr__(ranks, "other", (True, 1003.0, "node2"))
    check = check_shared_files(tmp_path, ranks)
    assert (check.state, check.found) == ("note", f"{tmp_path} is the same on all ranks, clocks within 3.00 s")
    assert list(tmp_path.iterdir()) == []
