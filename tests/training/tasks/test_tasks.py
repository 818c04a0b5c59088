"""The tasks without a run: initial weights and previews."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.errors import DataError, UserError
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.plotting.image_grids import GAP_PIXELS as GAP
from vqdist.training.tasks.conditions import conditions_of
from vqdist.training.tasks.pixelcnn import PixelCNNTask
from vqdist.training.tasks.vqvae import VQVAETask

CPU = torch.device("cpu")


def configure(*flags: tuple[str, object]) -> RunConfig:
    config, problems = load_config(None, [(name, str(value)) for name, value in flags])
    assert problems == []
    assert config is not None
    return config


def test_a_prior_starts_from_the_codebook_of_its_vqvae(code_set: Path) -> None:
    config = configure(("task", "pixelcnn"), ("data.path", code_set), ("model.hidden", 32))
    task = PixelCNNTask(config, load_manifest(code_set), code_set, CPU)
    model = task.build()
    codebook = task.vqvae.quantizer.codebook
    distances = torch.stack([torch.pdist(codebook), torch.pdist(model.embedding.weight.detach())])
    assert torch.corrcoef(distances)[0, 1].item() > 0.9999


def test_conditions_are_checked_although_the_batch_is_on_a_device() -> None:
    """A GPU would fail an assertion at a wrong label, and train on a wrong slice number without an error."""
    model = PixelCNN(8, hidden=8, layers=1, condition="label+slice", num_labels=3, num_slices=20)

    def place(label: list[int], slice: list[int]) -> Batch:
        codes, positions = torch.zeros(2, 4, 4, dtype=torch.int64), torch.arange(2)
        numbers = MapConditions(torch.tensor(label), torch.tensor(slice))
        return Batch(1, True, codes, numbers, positions, torch.ones(2), ["a", "b"]).to(torch.device("meta"))

    found = conditions_of(model, place([0, 2], [19, 0]), {})
    assert {name: value.device.type for name, value in found.tensors().items()} == {"label": "meta", "slice": "meta"}
    with pytest.raises(DataError, match="sample b: found no label"):
        conditions_of(model, place([0, NO_NUMBER], [1, 2]), {})
    with pytest.raises(DataError, match="sample a: found no slice"):
        conditions_of(model, place([0, 1], [NO_NUMBER, 2]), {})
    with pytest.raises(UserError, match=r"label: found 3; expected a number in \[0, 3\)"):
        conditions_of(model, place([3, 1], [1, 2]), {})
    with pytest.raises(UserError, match=r"slice: found 20; expected a number in \[0, 20\)"):
        conditions_of(model, place([2, 1], [1, 20]), {})


@pytest.mark.parametrize("count", [3, 8])
def test_a_preview_has_the_originals_in_its_upper_row(image_set: Path, count: int) -> None:
    values = torch.randint(256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(count)
    keys = [str(number) for number in range(count)]
    batch = Batch(0, True, values, MapConditions(numbers, numbers), numbers, torch.ones(count), keys)
    config = configure(("model.hidden", 8), ("model.residual_hidden", 4), ("model.downsample", 4))
    task = VQVAETask(config, load_manifest(image_set), image_set, CPU)
    task.build().eval()
    picture = task.preview(batch)[0]
    side = 16 + GAP
    assert picture.shape == (2 * side + GAP, count * side + GAP)
    for index in range(count):
        found = picture[GAP : GAP + 16, GAP + index * side :][:, :16]
        np.testing.assert_array_equal(found, values[index, 0].numpy())


@pytest.mark.parametrize(("num_labels", "problems"), [(2, 0), (1000, 0), (1001, 1), (123_456_790, 1)])
def test_labels_that_are_identifiers_are_refused(code_set: Path, num_labels: int, problems: int) -> None:
    manifest = replace(load_manifest(code_set), num_labels=num_labels)
    samples = manifest.splits["train"].samples
    assert samples < 100
    config = configure(("task", "pixelcnn"), ("data.path", code_set), ("model.condition", "label"))
    found = PixelCNNTask.find_problems(config, manifest)
    assert len(found) == problems
    assert all(
        f"the labels of the data go up to {num_labels - 1:,} for {samples} samples" in problem.found
        for problem in found
    )
    config = configure(("task", "pixelcnn"), ("data.path", code_set), ("model.condition", "none"))
    assert PixelCNNTask.find_problems(config, manifest) == []


def test_the_previous_slice_needs_slice_numbers_in_a_folder(code_set: Path) -> None:
    config = configure(("task", "pixelcnn"), ("model.context", "previous"), ("data.path", "https://host/codes"))
    manifest = load_manifest(code_set)
    found = [str(problem) for problem in PixelCNNTask.find_problems(config, replace(manifest, num_slices=None))]
    assert found[0].startswith(
        "model.context: found previous; the codes have no slice numbers; expected codes of volumes"
    )
    assert "shard those, then encode them" in found[0]
    assert found[1].startswith(
        "data.path: found https://host/codes, with model.context previous; expected a folder: the"
    )
    local = configure(("task", "pixelcnn"), ("model.context", "previous"), ("data.path", code_set))
    assert PixelCNNTask.find_problems(local, manifest) == []
    alone = configure(("task", "pixelcnn"), ("data.path", "https://host/codes"))
    assert PixelCNNTask.find_problems(alone, replace(manifest, num_slices=None)) == []
