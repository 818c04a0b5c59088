"""Whether a dataset fits the configuration of a run, as far as its manifest says; without torch."""

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import Problem, list_examples


def dataset_kind_problems(config: RunConfig, manifest: Manifest, path: str) -> list[Problem]:
    """Return a problem if a dataset of codes is given for images, or the other way round."""
    kind = config.model.data_kind
    if manifest.kind == kind:
        return []
    made_by = "vqdist shard" if kind == "images" else "vqdist encode"
    expected = f"{kind} for task {config.task}: made by {made_by}"
    return [Problem("data.path", f"a dataset of {manifest.kind} in {path}", expected)]


def sample_count_problems(config: RunConfig, manifest: Manifest, path: str) -> list[Problem]:
    """Return a problem if there is no train split, or if a batch has more samples than it."""
    samples = manifest.splits["train"].samples if "train" in manifest.splits else 0
    if not samples:
        found = f"no train split in {path}, only {list_examples(manifest.splits) or 'an empty manifest'}"
        expected = "a split named train, for example shards named train-000.tar or inside a folder train/"
        return [Problem("data.path", found, expected)]
    if samples >= config.data.global_batch_size:
        return []
    found = f"{config.data.global_batch_size} for {samples} samples of train in {path}"
    expected = f"at most {samples}: pass --data.global_batch_size {samples}, or use more data"
    return [Problem("data.global_batch_size", found, expected)]


def rank_count_problems(config: RunConfig, world_size: int) -> list[Problem]:
    """Return a problem if a batch has fewer samples than the run has ranks."""
    if config.data.global_batch_size >= world_size:
        return []
    found = f"{config.data.global_batch_size} samples for {world_size} ranks"
    expected = f"at least one sample per rank: pass --data.global_batch_size {world_size}, or use fewer ranks"
    return [Problem("data.global_batch_size", found, expected)]
