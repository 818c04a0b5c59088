"""Construction of a rank's data pipeline, with what the ranks of a node share: decoded samples, downloaded shards."""

from pathlib import Path

from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.schema import RunConfig
from vqdist.data.cache_dir import reporting_cache_errors, resolve_cache_dir
from vqdist.data.dataset_path import is_remote_dataset
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.sample_cache import SampleCache, open_caches
from vqdist.data.previous_noise import PreviousNoise, find_similar_codes
from vqdist.data.remote.remote_dataset import Prefetcher, PrefetchJob, ShardGate, compute_cache_budget
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError, Problem, UserError
from vqdist.models.io import VQVAE_FOLDER, load_model
from vqdist.models.vqvae import VQVAE


def build_pipeline(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks, token: str) -> DataPipeline:
    """Build the data pipeline of this rank. Must be called by all ranks.

    Args:
        path: folder of the dataset on this machine.
        token: token of this attempt of the run.
    Raises:
        DataError: too little space for decoded samples or remote shards, on any node.
    """
    caches: dict[str, SampleCache] = {}
    gate, prefetcher = None, None
    problems: list[Problem] = []
    try:
        if config.data.cache == "memory":
            with reporting_cache_errors(fallback := resolve_cache_dir(config.data.cache_dir)):
                caches = open_caches(manifest, token=token, fallback_folder=fallback)
        if config.data.path is not None and is_remote_dataset(config.data.path):
            attempt_dir = Path(path) / "starts" / token[:16]
            gate = ShardGate(Path(path), attempt_dir, config.run.timeout_s)
            if ranks.local_rank == 0:
                with reporting_cache_errors(resolve_cache_dir(config.data.cache_dir)):
                    prefetcher = _start_prefetcher(config, path, manifest, attempt_dir)
    except UserError as error:
        problems = error.problems
    problems_of_all = ranks.gather_objects(problems)
    for cache in caches.values():
        cache.unlink()  # the gathering above is the barrier after which every rank has opened it
    if any(problems_of_all):
        if prefetcher is not None:
            prefetcher.close()
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
        prefetcher=prefetcher,
        reads_previous=config.model.reads_previous,
        previous_noise=_build_previous_noise(config, Path(path)),
    )


def _build_previous_noise(config: RunConfig, folder: Path) -> PreviousNoise | None:
    """Return the changes of the previous maps; similar codes are those of the VQ-VAE that is stored with the codes."""
    if not isinstance(config.model, PixelCNNConfig) or not config.model.reads_previous:
        return None
    vqvae = load_model(folder / VQVAE_FOLDER)
    assert isinstance(vqvae, VQVAE)
    similar = find_similar_codes(vqvae.quantizer.codebook.detach().numpy())
    return PreviousNoise(similar, config.model.context_dropout, config.model.context_noise, config.run.seed)


def _start_prefetcher(config: RunConfig, path: str, manifest: Manifest, attempt_dir: Path) -> Prefetcher:
    data = config.data
    assert data.path is not None
    order, window_shards = data.order, data.window_shards
    job = PrefetchJob(
        url=data.path,
        folder=path,
        attempt_dir=str(attempt_dir),
        budget=compute_cache_budget(manifest, order=order, window_shards=window_shards, cache_gib=data.cache_gib),
        order=order,
        window_shards=window_shards,
        seed=config.run.seed,
    )
    return Prefetcher(job)
