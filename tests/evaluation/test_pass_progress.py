"""Progress of a pass that the ranks share."""

import pytest
import torch
from support import ALONE

from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass

FIRST_OF_THREE = Ranks(0, 3, 0, torch.device("cpu"))


@pytest.mark.parametrize(("ranks", "batches"), [(ALONE, ["abc", "def", "g"]), (FIRST_OF_THREE, ["abc"])])
def test_the_share_of_rank_0_stands_for_all(
    ranks: Ranks, batches: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert list(show_pass(batches, 7, ranks, label="evaluate test", size=len)) == batches
    assert capfd.readouterr().err.startswith("evaluate test: 7 slices, in 0 s, ")


def test_a_pass_that_breaks_off_leaves_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    batches = show_pass(["abc", "def"], 6, ALONE, label="test", size=len)
    next(batches)
    del batches
    assert capfd.readouterr().err == ""
