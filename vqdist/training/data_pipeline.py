"""The samples' way to this rank, and what the ranks of a node share on it: decoded samples and fetched shards."""

from pathlib import Path

from vqdist.config.schema import RunConfig
from vqdist.data.cache_dir import resolve_cache_dir
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.sample_cache import SampleCache, open_caches
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import Fetcher, Job, ShardGate, plan_room
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError, Problem, UserError


def build_pipeline(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks, token: str) -> DataPipeline:
    """Build the samples' way to this rank.

    Args:
        path: the folder of the data set on this machine.
        token: of this start of the run.
    Raises:
        DataError: no room for what is to be shared, on any node.
    Collective: every rank.
    """
    caches: dict[str, SampleCache] = {}
    gate, fetcher = None, None
    problems: list[Problem] = []
    try:
        if config.data.cache == "memory":
            caches = open_caches(manifest, token=token, spare_folder=resolve_cache_dir(config.data.cache_dir))
        if config.data.path is not None and is_url(config.data.path):
            gate = ShardGate(Path(path), _start_folder(path, token), config.run.timeout_s)
            fetcher = _start_fetcher(config, path, manifest, token) if ranks.local_rank == 0 else None
    except UserError as error:
        problems = error.problems
    problems_of_all = ranks.gather_objects(problems)
    for cache in caches.values():
        cache.remove_names()  # every rank of the node has opened it by now
    if any(problems_of_all):
        if fetcher is not None:
            fetcher.close()
        raise DataError(next(filter(None, problems_of_all)))
    return DataPipeline(
        path,
        manifest,
        config.data,
        seed=config.run.seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout_s=config.run.timeout_s,
        pin_memory=ranks.device.type == "cuda",
        caches=caches,
        gate=gate,
        fetcher=fetcher,
    )


def _start_fetcher(config: RunConfig, path: str, manifest: Manifest, token: str) -> Fetcher:
    data = config.data
    assert data.path is not None
    room = plan_room(manifest, order=data.order, window_shards=data.window_shards, cache_gib=data.cache_gib)
    return Fetcher(
        Job(
            address=data.path,
            folder=path,
            start=str(_start_folder(path, token)),
            total_bytes=room.total,
            spare_bytes=room.spare,
            order=data.order,
            window_shards=data.window_shards,
            seed=config.run.seed,
        )
    )


def _start_folder(path: str, token: str) -> Path:
    return Path(path) / "starts" / token[:16]
