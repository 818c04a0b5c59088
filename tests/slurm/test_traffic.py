"""The scaling formulas of slurm/README.md against the counters of network interfaces and processes."""

import itertools
import os
import tarfile
from pathlib import Path

import pytest
from slurm_cluster import Machine
from slurm_jobs import Jobs, Run

from vqdist.config.schema import DataSection
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import load_manifest
from vqdist.models.io import load_model

FROM_STEP, TO_STEP = 15, 75
CODES, CODE_DIM, GLOBAL_BATCH = 256, 64, 24


@pytest.mark.parametrize(
    ("ranks", "optimizer"),
    [
        (2, "adam"),
        (4, "muon"),
        pytest.param(4, "adam", marks=pytest.mark.long),
        pytest.param(2, "muon", marks=pytest.mark.long),
    ],
)
def test_bytes_and_reads_of_a_step(jobs: Jobs, slices: Path, ranks: int, optimizer: str) -> None:
    flags = f"--nodes={ranks} --ntasks-per-node=1 --exclusive"
    job, run = jobs.train("traffic", "--optim.name", optimizer, flags=flags)
    before, after = count_at(jobs, job, run, FROM_STEP), count_at(jobs, job, run, TO_STEP)
    jobs.assert_completed(job)
    steps = after["step"] - before["step"]
    per_step = {name: (after[name] - before[name]) / steps for name in before}

    model = load_model(run.path)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    orthogonal = sum(weight.numel() for weight in model.hidden_weights()) if optimizer == "muon" else 0
    # Gradients, Muon's updates, counts and sums of the codebook, and candidates every fourth step. The loss terms are
    # negligible.
    summed_bytes = 4 * (parameters + orthogonal + CODES + CODES * CODE_DIM * (1 + 1 / 4))
    sent_bytes = summed_bytes * 2 * (ranks - 1) / ranks
    assert per_step["sent_bytes"] == pytest.approx(sent_bytes, rel=0.15)
    assert per_step["received_bytes"] == pytest.approx(sent_bytes, rel=0.15)

    # Two reads per sample, the picture and its JSON; a rank reads only its own samples.
    assert per_step["reads"] == pytest.approx(2 * GLOBAL_BATCH / ranks, abs=6)
    assert per_step["read_bytes"] == pytest.approx(sample_bytes(slices) * GLOBAL_BATCH / ranks, rel=0.05)

    # Weights with two moments (Adam) or one (Muon), the codebook, and three numbers per code.
    checkpoint_bytes = 12 * parameters - 4 * orthogonal + 4 * CODES * CODE_DIM + 12 * CODES
    newest = max((run.path / "checkpoints").glob("step-*"))
    assert sum(path.stat().st_size for path in newest.iterdir()) == pytest.approx(checkpoint_bytes, rel=0.02)


@pytest.mark.parametrize("ranks", [2, 4])
def test_each_rank_opens_each_shard_and_index_once(slices: Path, monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    opened: list[Path] = []
    really_open = os.open

    def count(path: Path, *arguments: int) -> int:
        opened.append(Path(path))
        return really_open(path, *arguments)

    manifest = load_manifest(slices)
    settings = DataSection(path=str(slices), global_batch_size=8, num_workers=0)
    monkeypatch.setattr(os, "open", count)
    for rank in range(ranks):
        feed = DataPipeline(str(slices), manifest, settings, seed=0, rank=rank, world_size=ranks, timeout_s=60)
        for _ in itertools.islice(feed.train_steps(0), 3 * 48 // 8):  # three epochs
            pass
    names = [path.relative_to(slices).as_posix() for path in opened if slices in path.parents]
    tars = [shard.name for shard in manifest.splits["train"].shards]
    assert sorted(names) == sorted((tars + [index_path(Path(name)).as_posix() for name in tars]) * ranks)


def sample_bytes(data_set: Path) -> float:
    """Return the mean bytes of a training sample: picture and JSON, each with its tar header."""
    sizes, samples = 0, 0
    for shard in load_manifest(data_set).splits["train"].shards:
        with tarfile.open(data_set / shard.name) as tar:
            sizes += sum(member.size + tarfile.BLOCKSIZE for member in tar)
        samples += shard.samples
    return sizes / samples


def count_at(jobs: Jobs, job: str, run: Run, step: int) -> dict[str, float]:
    """Wait for a step; return the counters of the node of rank 0, and their step."""
    jobs.wait_step(job, run, step)
    node = jobs.cluster.nodes["node1"]
    sent, received = count_traffic(node)
    return {"step": run.step, "sent_bytes": sent, "received_bytes": received, **count_reads(node)}


def count_traffic(node: Machine) -> tuple[int, int]:
    """Return the bytes sent and received by the network interface of a node."""
    lines = Path(f"/proc/{node.pid}/net/dev").read_text().splitlines()
    numbers = next(line for line in lines if line.strip().startswith("eth0:")).split(":")[1].split()
    return int(numbers[8]), int(numbers[0])


def count_reads(node: Machine) -> dict[str, int]:
    """Return the bytes and the number of reads of the training processes of a node."""
    total = {"read_bytes": 0, "reads": 0}
    for pid in node.processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[1:3] == [b"-m", b"vqdist.train"]:
            fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
            total["read_bytes"] += int(fields["rchar"])
            total["reads"] += int(fields["syscr"])
    return total
