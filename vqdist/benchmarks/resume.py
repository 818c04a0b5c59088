"""How soon a run of 10 million samples knows what comes next, wherever it stands."""

import json
import tempfile
from pathlib import Path

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import TrainRequests
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.shards.manifest import MANIFEST, Manifest, ShardInfo, SplitInfo, load_manifest

SHARD_SAMPLES = 256
GOAL_S = 2.0


def run(bench: Bench) -> list[Result]:
    """Measure the part."""
    shards = bench.size(39063, 40)
    total = shards * SHARD_SAMPLES
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_manifest_alone(Path(folder), shards)
        for order in ("windowed", "full"):
            for position in (0, total // 2, 7 * total + 12345):
                case = f"{total:,} samples, {order} order, first indexes at position {position:,}"
                seconds = bench.time_in_turn({"ours": lambda: find_first(folder, order, position)})["ours"]  # noqa: B023
                results += compare("resume", case, "s", seconds, {"goal": GOAL_S})
    return results


def write_manifest_alone(folder: Path, shards: int) -> None:
    """Write the manifest of a data set without its shards: before the first sample nobody looks at them."""
    listed = tuple(
        ShardInfo(f"train/shard-{number:06d}.tar", SHARD_SAMPLES, 5_000_000, f"{number:064x}")
        for number in range(shards)
    )
    split = SplitInfo(listed, shards * SHARD_SAMPLES, 1000, (0.2,), (0.1,))
    manifest = Manifest("images", (256, 256), 1, {"train": split})
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json()))


def find_first(folder: str, order: str, position: int) -> object:
    """Do what a start does to know its first micro-batch, from the manifest on."""
    settings = DataSection.model_validate({"path": folder, "global_batch_size": 16, "order": order})
    feed = DataPipeline(folder, load_manifest(folder), settings, seed=0, rank=0, world_size=1, timeout_s=60)
    requests = TrainRequests(
        feed.order, global_batch_size=16, micro_batch_size=None, rank=0, world_size=1, step=position // 16
    )
    return next(iter(requests))
