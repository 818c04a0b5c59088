"""Time to the first sample indices after a resume, at three positions in a dataset of 10 million samples."""

import json
import tempfile
from functools import partial
from pathlib import Path

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.config.schema import DataSection
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.plan import TrainPlan
from vqdist.data.shards.manifest import MANIFEST, Manifest, ShardInfo, SplitInfo, load_manifest

SHARD_SAMPLES = 256
GOAL_S = 2.0


def run(bench: Bench) -> list[Result]:
    """Measure the seconds from the manifest to the first indexes, for both orders and three positions."""
    shards = bench.size(39063, 40)
    total = shards * SHARD_SAMPLES
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_manifest_without_shards(Path(folder), shards)
        for order in ("windowed", "full"):
            for position in (0, total // 2, 7 * total + 12345):
                case = f"{total:,} samples, {order} order, first indexes at position {position:,}"
                ours_s = bench.time_in_turn({"ours": partial(find_first_indexes, folder, order, position)})["ours"]
                results += compare("resume", case, "s", ours_s, {"goal": GOAL_S})
    return results


def write_manifest_without_shards(folder: Path, shards: int) -> None:
    """Write only the manifest of a dataset; the sample order does not read the shards."""
    listed = tuple(
        ShardInfo(f"train/shard-{number:06d}.tar", SHARD_SAMPLES, 5_000_000, f"{number:064x}")
        for number in range(shards)
    )
    split = SplitInfo(listed, shards * SHARD_SAMPLES, 1000, (0.2,), (0.1,))
    manifest = Manifest("images", (256, 256), 1, {"train": split})
    (folder / MANIFEST).write_text(json.dumps(manifest.to_json()) + "\n")


def find_first_indexes(folder: str, order: str, position: int) -> object:
    """Load the manifest and return the plan of the first micro-batch of a run resumed at a position."""
    settings = DataSection.model_validate({"path": folder, "global_batch_size": 16, "order": order})
    pipeline = DataPipeline(folder, load_manifest(folder), settings, seed=0, rank=0, world_size=1, timeout_s=60)
    plan = TrainPlan(
        pipeline.order, global_batch_size=16, micro_batch_size=None, rank=0, world_size=1, step=position // 16
    )
    return next(iter(plan))
