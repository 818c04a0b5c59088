"""Processes for tests: functions and commands on real ranks that communicate through gloo.

The ranks are forked from a server process that has already imported torch and the package, so that they start in a
fraction of a second.
"""

import atexit
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ("torch._dynamo", "vqdist.train", "vqdist.training.run", "accelerate", "PIL.PngImagePlugin", "pytest")
PRELOADED += ("matplotlib.figure", "matplotlib.backends.backend_agg", "vqdist.inference.encoding")

_context = get_context("forkserver")


@dataclass
class Ended:
    """The result of processes that have ended.

    Attributes:
        codes: exit code of each rank; the negative signal number if a signal killed it.
        logs: standard error of each rank.
        outputs: standard output of each rank.
    """

    codes: list[int]
    logs: list[str]
    outputs: list[str]

    @property
    def code(self) -> int:
        """The exit code, which must be the same for all ranks."""
        assert len(set(self.codes)) == 1, self.describe()
        return self.codes[0]

    def describe(self) -> str:
        return "\n".join(f"--- rank {i}: {c}\n{t}" for i, (c, t) in enumerate(zip(self.codes, self.logs, strict=True)))


class Started:
    """Running ranks. `wait` returns their results; leaving the `with` block kills those that still run.

    Args:
        processes: one per rank.
        folder: a temporary folder with rank-R.err and rank-R.out of each rank.
    """

    def __init__(self, processes: Sequence[BaseProcess], folder: Path) -> None:
        self.processes = processes
        self._folder = folder

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join()
            process.close()
        shutil.rmtree(self._folder)

    def send(self, number: int, *ranks: int) -> None:
        """Send a signal to the given ranks, by default to all, if they still run."""
        for rank in ranks or range(len(self.processes)):
            if self.processes[rank].is_alive():
                with suppress(ProcessLookupError):  # it may have ended after the check
                    os.kill(self.pid(rank), number)

    def pid(self, rank: int) -> int:
        pid = self.processes[rank].pid
        assert pid is not None
        return pid

    def wait(self, timeout_s: float = 200.0) -> Ended:
        """Wait for all ranks. It is a failure if one runs longer than the timeout."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        alive = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join()
        ended = Ended([process.exitcode or 0 for process in self.processes], self.read_logs(), self._read("out"))
        assert not alive, f"ranks {alive} ran for more than {timeout_s} s\n{ended.describe()}"
        return ended

    def read_logs(self) -> list[str]:
        return self._read("err")

    def _read(self, stream: str) -> list[str]:
        files = [self._folder / f"rank-{rank}.{stream}" for rank in range(len(self.processes))]
        return [file.read_text(errors="replace") if file.exists() else "" for file in files]


def start(
    target: Callable[..., Any], *arguments: Any, ranks: int = 1, environment: dict[str, str] | None = None
) -> Started:
    """Call a module-level function on the given number of ranks, one process each. It returns the exit code."""
    ensure_server()
    folder = Path(tempfile.mkdtemp(prefix="vqdist-ranks-"))
    port = find_port()
    processes = []
    for rank in range(ranks):
        settings = rank_environment(rank, ranks, port) | (environment or {})
        process = _context.Process(target=_run_rank, args=(settings, str(folder / f"rank-{rank}"), target, arguments))
        process.start()
        processes.append(process)
    return Started(processes, folder)


def on_ranks(body: Callable[..., Any], *arguments: Any, ranks: int, timeout_s: float = 200.0) -> list[Any]:
    """Call a function of a test module on the given number of ranks and return the JSON value that each returned.

    The function calls `init_process_group("cpu")` first, as every command does.
    """
    with tempfile.TemporaryDirectory() as folder:
        with start(_keep_result, folder, body.__module__, body.__name__, arguments, ranks=ranks) as started:
            ended = started.wait(timeout_s)
        assert ended.codes == [0] * ranks, ended.describe()
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]


def wait_until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Call a condition every 5 ms and return its first true value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"condition still false after {timeout_s} s"
        time.sleep(0.005)
    return value


def find_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return the environment variables that a launcher sets for a rank; none for a single process."""
    if world_size == 1:
        return {}
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_PORT": port,
    }
    names = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    return names | {name: str(value) for name, value in numbers.items()}


def ensure_server() -> None:
    """Start the server that ranks are forked from. It has a single thread, because threads do not survive a fork."""
    _context.set_forkserver_preload(list(PRELOADED))
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "TQDM_DISABLE")}
    os.environ |= dict.fromkeys(before, "1")
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def find_children(pid: int) -> list[int]:
    """Return the direct and indirect child processes of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _run_rank(settings: dict[str, str], files: str, target: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ |= settings
    for stream, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{files}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = target(*arguments)
    except Exception as error:  # noqa: BLE001 (as the interpreter does, which keeps the traceback until it exits)
        traceback.print_exc()
        sys.last_traceback = error.__traceback__
        code = 1
    atexit._run_exitfuncs()  # os._exit does not run them
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _keep_result(folder: str, module: str, name: str, arguments: Sequence[Any]) -> int:
    from vqdist.distributed.process_group import destroy_process_group

    try:
        result = getattr(importlib.import_module(module), name)(*arguments)
    finally:
        destroy_process_group()
    (Path(folder) / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))
    return 0
