"""Checks between ranks: who joined, all-reduce, and a shared run directory."""

import os
import socket
import statistics
import time
import uuid
from pathlib import Path

import torch

from vqdist.data.cache_dir import nearest_folder
from vqdist.diagnosis.check import Check
from vqdist.diagnosis.storage import MAX_CLOCK_SKEW_S, SYNCHRONISE
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import list_examples
from vqdist.foundation.progress import count_noun

REDUCE_BYTES = 2**24
REDUCE_ROUNDS = 5
VISIBILITY_RETRIES = 10


def check_communication(run_dir: Path, ranks: Ranks, rendezvous_s: float) -> list[Check]:
    """Run all checks between ranks, which needed `rendezvous_s` seconds to join. Must be called by all ranks."""
    return [describe_ranks(ranks, rendezvous_s), check_all_reduce(ranks), check_shared_files(run_dir, ranks)]


def describe_ranks(ranks: Ranks, rendezvous_s: float) -> Check:
    """Report how many ranks joined, on how many hosts. Must be called by all ranks."""
    hosts = set(ranks.gather_objects(socket.gethostname()))
    found = (
        f"{ranks.world_size} on {count_noun(len(hosts), 'host')} joined in {rendezvous_s:.1f} s, {ranks.device.type}"
    )
    return Check("ranks", "ok", found, figures={"ranks": float(ranks.world_size), "rendezvous_s": rendezvous_s})


def check_all_reduce(ranks: Ranks) -> Check:
    """Sum 16 MiB over all ranks, compare the sum, and time it. Must be called by all ranks."""
    name = "all-reduce"
    if ranks.world_size == 1:
        return Check(name, "ok", "not needed for one rank")
    tensor = torch.ones(REDUCE_BYTES // 4, device=ranks.device)
    times_s = []
    for _ in range(REDUCE_ROUNDS):
        tensor.fill_(1.0)
        ranks.barrier()
        start_s = time.perf_counter()
        ranks.all_reduce(tensor)
        total = tensor[-1].item()
        times_s.append(time.perf_counter() - start_s)
        if total != ranks.world_size:
            return Check(
                name,
                "fix",
                f"{total} instead of {ranks.world_size}",
                "set another network interface (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME) or update the driver",
            )
    median_s = statistics.median(times_s)
    # A ring all-reduce sends and receives 2 (W - 1) / W of the tensor on each of the W ranks.
    rate = REDUCE_BYTES * 2 * (ranks.world_size - 1) / ranks.world_size / median_s
    found = f"16 MiB in {median_s * 1000:.1f} ms: {rate / 1e9:.2f} GB/s in and out of each rank"
    return Check(name, "ok", found, figures={"all_reduce_bytes_per_s": rate})


def check_shared_files(run_dir: Path, ranks: Ranks) -> Check:
    """Check that every rank sees the files of rank 0 and that the clocks of the hosts agree.

    Must be called by all ranks.
    """
    name, folder = "shared files", nearest_folder(run_dir)
    path = Path(ranks.broadcast_object(str(folder / f".vqdist-doctor-{uuid.uuid4().hex}")))
    if ranks.is_main:
        path.touch()
    ranks.barrier()
    now_s = time.time()
    for _ in range(VISIBILITY_RETRIES):
        if path.exists():
            break
        time.sleep(1.0)  # network file systems cache the contents of a folder for some seconds
        os.listdir(path.parent)
    views = ranks.gather_objects((path.exists(), now_s, socket.gethostname()))
    if ranks.is_main:
        path.unlink()
    hosts = sorted({host for visible, _, host in views if not visible})
    if hosts:
        found = f"{path.parent} of rank 0 is another folder on {list_examples(hosts)}"
        return Check(name, "fix", found, "set run.dir to a folder that all nodes share")
    clocks_s = [clock_s for _, clock_s, _ in views]
    spread_s = max(clocks_s) - min(clocks_s)
    found = f"{path.parent} is the same on all ranks, clocks within {spread_s:.2f} s"
    if spread_s > MAX_CLOCK_SKEW_S:
        return Check(name, "note", found, SYNCHRONISE)
    return Check(name, "ok", found)
