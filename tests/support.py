"""What tests of whole runs share: small made-up data sets, the train command and test bodies on real ranks.

The processes are real and talk through gloo, but they are forked from a server that has imported torch and
the package once, so that a run starts in a fraction of a second: `train("--data.path", data, ..., ranks=3)`.
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
from hashlib import sha256
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.phantom import phantom_slice
from vqdist.models.io import fingerprint, save_model
from vqdist.models.vqvae import VQVAE

SIZE, NUM_CODES, GRID = 32, 16, (8, 8)
SUBJECTS = {"train": range(20), "validate": range(20, 23), "test": range(23, 26)}
SLICES = (4, 12, 20)
TINY_VQVAE = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "downsample": 4, "code_dim": 4, "num_codes": 16}
TINY_PIXELCNN = {"hidden": 8, "layers": 2, "kernel": 3, "condition": "label+slice"}
QUIET = ("--tracking.mode", "disabled", "--run.device", "cpu")
PRELOADED = ("torch._dynamo", "vqdist.train", "vqdist.training.run", "accelerate", "PIL.PngImagePlugin", "pytest")
PRELOADED += ("matplotlib.figure", "matplotlib.backends.backend_agg")

_context = get_context("forkserver")


def write_image_set(out: Path, *, channels: int = 1, samples_per_shard: int = 7) -> Path:
    """Write 60 made-up slices of 32 x 32 in train, 9 in validate and 9 in test; 7 in a shard."""
    kind = {"kind": "images", "image_size": (SIZE, SIZE), "channels": channels}
    with ShardSetWriter(out, **kind, samples_per_shard=samples_per_shard) as writer:
        for split, subjects in SUBJECTS.items():
            for subject in subjects:
                for number in SLICES:
                    pixels = phantom_slice(subject, number, image_size=SIZE)
                    image = np.repeat(pixels[None], channels, axis=0)
                    writer.write_image(split, f"s{subject:02d}-{number:02d}", image, describe(subject, number))
    return out


def write_code_set(out: Path, *, samples_per_shard: int = 7) -> Path:
    """Write 60 made-up maps of 8 x 8 codes in train, 9 in validate and 9 in test, with an untrained VQ-VAE beside."""
    torch.manual_seed(0)
    kind = {"kind": "codes", "image_size": (SIZE, SIZE), "channels": 1, "num_codes": NUM_CODES, "grid": GRID}
    with tempfile.TemporaryDirectory() as folder:
        save_model(VQVAE(1, **TINY_VQVAE), Path(folder) / "vqvae", step=0)
        mark = fingerprint(Path(folder) / "vqvae")
        with ShardSetWriter(out, **kind, samples_per_shard=samples_per_shard, vqvae_fingerprint=mark) as writer:
            (Path(folder) / "vqvae").rename(writer.folder / "vqvae")
            for split, subjects in SUBJECTS.items():
                for subject in subjects:
                    for number in SLICES:
                        codes = np.random.default_rng([subject, number]).integers(0, NUM_CODES, GRID) // 2
                        writer.write_codes(split, f"s{subject:02d}-{number:02d}", codes, describe(subject, number))
    return out


def describe(subject: int, number: int) -> dict[str, Any]:
    """Return what a made-up sample's JSON tells."""
    return {"subject": f"s{subject:02d}", "slice": number, "label": subject % 2, "source": "made up"}


def tiny_flags(task: str = "vqvae") -> list[str]:
    """Return the flags of a run that is over in a second: 20 steps of 8 samples with a tiny model."""
    settings: dict[str, Any] = {
        "task": task,
        "data.global_batch_size": 8,
        "data.num_workers": 0,
        "train.max_steps": 20,
        "train.log_every": 4,
        "train.eval_every": 10,
        "train.preview_every": None,
        "checkpoint.every_steps": 5,
        "run.timeout_s": 60,
    }
    model = TINY_VQVAE if task == "vqvae" else TINY_PIXELCNN
    settings |= {f"model.{name}": value for name, value in model.items()}
    return [word for name, value in settings.items() for word in (f"--{name}", "null" if value is None else str(value))]


@dataclass
class Ended:
    """How processes ended.

    Attributes:
        codes: exit code of each rank, minus the signal's number where one ended it.
        logs: what each rank wrote to stdout and stderr.
    """

    codes: list[int]
    logs: list[str]

    @property
    def code(self) -> int:
        """The exit code that all ranks agree on."""
        assert len(set(self.codes)) == 1, self.describe()
        return self.codes[0]

    def describe(self) -> str:
        return "\n".join(f"--- rank {i}: {c}\n{t}" for i, (c, t) in enumerate(zip(self.codes, self.logs, strict=True)))


class Started:
    """Ranks that run. `wait` gathers how they ended; leaving the block kills what is left."""

    def __init__(self, processes: Sequence[BaseProcess], logs: Sequence[Path]) -> None:
        self.processes = processes
        self._logs = logs

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join()
            process.close()
        shutil.rmtree(self._logs[0].parent)

    def send(self, number: int, *ranks: int) -> None:
        """Send a signal to some ranks, or to all that still run."""
        for rank in ranks or range(len(self.processes)):
            if self.processes[rank].is_alive():
                with suppress(ProcessLookupError):  # it may end between the two
                    os.kill(self.pid(rank), number)

    def pid(self, rank: int) -> int:
        pid = self.processes[rank].pid
        assert pid is not None
        return pid

    def wait(self, timeout_s: float = 100.0) -> Ended:
        """Wait for the end of all ranks; those that outlive the timeout are killed, and that is a failure."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        alive = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.join()
        ended = Ended([process.exitcode or 0 for process in self.processes], self.read_logs())
        assert not alive, f"ranks {alive} ran for more than {timeout_s} s\n{ended.describe()}"
        return ended

    def read_logs(self) -> list[str]:
        return [log.read_text(errors="replace") if log.exists() else "" for log in self._logs]


def start(
    target: Callable[..., Any], *arguments: Any, ranks: int = 1, environment: dict[str, str] | None = None
) -> Started:
    """Call a function of a module on as many ranks, each in a process of its own; what it returns is its exit code."""
    ensure_server()
    folder = Path(tempfile.mkdtemp(prefix="vqdist-ranks-"))
    logs = [folder / f"rank-{rank}.log" for rank in range(ranks)]
    port = find_port()
    processes = []
    for rank in range(ranks):
        settings = rank_environment(rank, ranks, port) | (environment or {})
        process = _context.Process(target=_run_rank, args=(settings, str(logs[rank]), target, arguments))
        process.start()
        processes.append(process)
    return Started(processes, logs)


def on_ranks(body: Callable[..., Any], *arguments: Any, ranks: int, timeout_s: float = 100.0) -> list[Any]:
    """Call a function of a test module on as many ranks and return what each returned (JSON values).

    The body begins with `init_process_group("cpu")`, as every command does.
    """
    with tempfile.TemporaryDirectory() as folder:
        with start(_keep_result, folder, body.__module__, body.__name__, arguments, ranks=ranks) as started:
            ended = started.wait(timeout_s)
        assert ended.codes == [0] * ranks, ended.describe()
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]


def start_train(*flags: object, ranks: int = 1, environment: dict[str, str] | None = None) -> Started:
    """Start the train command on as many ranks; flags as on the command line, after those that keep it quiet."""
    return start(_train, [*QUIET, *map(str, flags)], ranks=ranks, environment=environment)


def train(*flags: object, ranks: int = 1, check: bool = True, timeout_s: float = 100.0) -> Ended:
    """Run the train command to its end.

    Args:
        check: fail unless all ranks end with 0.
    """
    with start_train(*flags, ranks=ranks) as started:
        ended = started.wait(timeout_s)
    assert not check or set(ended.codes) == {0}, ended.describe()
    return ended


def wait_until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Return the first true value of a condition, asked every 5 ms."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"nothing for {timeout_s} s"
        time.sleep(0.005)
    return value


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl without their `perf`."""
    return [
        {name: value for name, value in line.items() if name != "perf"} for line in read_records(run / "metrics.jsonl")
    ]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def find_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """Return what a launcher tells a rank; nothing to one that is alone."""
    if world_size == 1:
        return {}
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_PORT": port,
    }
    told = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    return told | {name: str(value) for name, value in numbers.items()}


def ensure_server() -> None:
    """Start the process that ranks are forked from; it has one thread, since several cannot be forked safely."""
    _context.set_forkserver_preload(list(PRELOADED))
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "TQDM_DISABLE")}
    os.environ |= dict.fromkeys(before, "1")
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _run_rank(settings: dict[str, str], log: str, target: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ |= settings
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = target(*arguments)
    except Exception as error:  # noqa: BLE001 (ends as an interpreter does, which keeps the traceback until the end)
        traceback.print_exc()
        sys.last_traceback = error.__traceback__
        code = 1
    atexit._run_exitfuncs()  # which a forked process leaves to its parent
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _train(words: list[str]) -> int:
    from vqdist.foundation.command import run_command
    from vqdist.train import main

    return run_command(main, words)


def _keep_result(folder: str, module: str, name: str, arguments: Sequence[Any]) -> int:
    from vqdist.distributed.process_group import destroy_process_group

    try:
        result = getattr(importlib.import_module(module), name)(*arguments)
    finally:
        destroy_process_group()
    (Path(folder) / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))
    return 0
