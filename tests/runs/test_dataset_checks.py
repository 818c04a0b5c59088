"""Whether a dataset fits a configuration: its kind, the samples of train, the ranks."""

from pathlib import Path

from vqdist.config.model_config import PixelCNNConfig, VQVAEConfig
from vqdist.config.schema import RunConfig, run_config_type
from vqdist.data.shards.manifest import load_manifest
from vqdist.runs.dataset_checks import dataset_kind_problems, rank_count_problems, sample_count_problems


def configure(batch: int) -> RunConfig:
    return run_config_type("vqvae", VQVAEConfig).model_validate({"data": {"global_batch_size": batch}})


def test_a_batch_has_at_most_the_samples_of_train(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    samples = manifest.splits["train"].samples
    assert sample_count_problems(configure(samples), manifest, "data") == []
    (problem,) = sample_count_problems(configure(samples + 1), manifest, "data")
    assert str(problem) == (
        f"data.global_batch_size: found {samples + 1} for {samples} samples of train in data; expected at most "
        f"{samples}: pass --data.global_batch_size {samples}, or use more data"
    )


def test_a_batch_has_at_least_a_sample_per_rank() -> None:
    assert rank_count_problems(configure(8), 8) == []
    (problem,) = rank_count_problems(configure(8), 9)
    assert str(problem) == (
        "data.global_batch_size: found 8 samples for 9 ranks; expected at least one sample per rank: "
        "pass --data.global_batch_size 9, or use fewer ranks"
    )


def test_the_kind_of_the_dataset_is_that_of_the_task(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    assert dataset_kind_problems(configure(8), manifest, "data") == []
    prior = run_config_type("pixelcnn", PixelCNNConfig).model_validate({"data": {"path": "data"}})
    (problem,) = dataset_kind_problems(prior, manifest, "data")
    assert problem.expected == "codes for task pixelcnn: made by vqdist encode"
