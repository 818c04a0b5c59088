"""The message of a rank that waits for others."""

import time

import pytest

from vqdist.distributed.wait_notice import announcing_wait, describe_meeting


def test_a_long_wait_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    with announcing_wait("waiting for rank 0", after_s=3600.0):
        pass
    with announcing_wait("waiting for rank 0", shown=False, after_s=0.0):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
    with announcing_wait("waiting for rank 0", after_s=0.0):
        deadline_s = time.monotonic() + 60
        while not (said := capsys.readouterr().err) and time.monotonic() < deadline_s:
            time.sleep(0.01)
    assert said == "waiting for rank 0\n"


def test_a_rank_says_where_it_waits() -> None:
    text = describe_meeting(8, {"RANK": "3", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"})
    assert text.endswith("waiting for rank 0 and all 8 ranks at node1:29500 (MASTER_ADDR, MASTER_PORT)")
    assert "waiting for all 8 ranks to connect to ?:?" in describe_meeting(8, {"RANK": "0"})
