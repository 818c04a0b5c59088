"""Commands on ranks of which one fails, with what a GPU does to the others. Tests run them in separate processes."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from support.commands import run_command_main
from support.faulty_training import replace_losses


def fail(kind: str) -> NoReturn:
    """Fail as a rank does: with a user's error, by a bug, or killed."""
    from vqdist.foundation.errors import DataError

    if kind == "error":
        raise DataError.of("shard-000007", "a damaged sample", "the bytes of its index")
    if kind == "bug":
        raise ZeroDivisionError("a bug")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def block(*_: Any, **__: Any) -> NoReturn:
    """Wait without end, as the host does for a GPU whose collectives never complete."""
    while True:
        threading.Event().wait(3600)


def block_in_destroy() -> None:
    """Let leaving the process group wait for the other ranks without end, as NCCL does after an error."""
    import torch.distributed

    torch.distributed.destroy_process_group = block


def run_with_failing_rank(command: str, words: list[str], kind: str) -> int:
    """Run a command on ranks of which rank 1 fails before its first exchange of objects."""
    from vqdist.distributed.process_group import Ranks

    block_in_destroy()
    real = Ranks.gather_objects

    def gather_objects(ranks: Any, value: Any) -> list[Any]:
        if ranks.rank == 1:
            fail(kind)
        return real(ranks, value)

    Ranks.gather_objects = gather_objects  # type: ignore[method-assign]
    return run_command_main(command, words)


def train_with_failing_rank(words: list[str], kind: str, at_step: int, victim: int = 1) -> int:
    """Train on ranks of which one fails before its gradients reach the others."""
    block_in_destroy()
    fail_in_step(kind, at_step, victim)
    return run_command_main("train", words)


def train_with_waiting_ranks(words: list[str], kind: str, at_step: int, victim: int = 1) -> int:
    """Train on ranks of which one fails in a step in which all others wait for their GPU without end."""
    from vqdist.foundation import devices
    from vqdist.training import step

    block_in_destroy()
    # The CPU is treated as a device that queues its work, for which the host waits in `read`.
    devices.QUEUING_DEVICES = frozenset({"cpu"})
    devices.copy_to_device = lambda tensor, device: tensor
    real: Callable[..., Any] = step._Report.read
    steps = iter(range(1, 10**6))

    def read(report: Any) -> Any:
        if next(steps) == at_step:
            fail(kind) if int(os.environ["RANK"]) == victim else block()
        return real(report)

    step._Report.read = read  # type: ignore[method-assign]
    return run_command_main("train", words)


def fail_in_step(kind: str, at_step: int, victim: int) -> None:
    def losses(compute: Callable[..., Any], batch: Any, training: bool) -> Any:
        if training and batch.step == at_step and int(os.environ["RANK"]) == victim:
            fail(kind)
        return compute(batch)

    replace_losses(losses)
