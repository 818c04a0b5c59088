"""Every reason why a dataset does not fit a model."""

from dataclasses import replace
from pathlib import Path

import pytest

from vqdist.data.open_dataset import Dataset
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import Problem
from vqdist.inference.compatibility import (
    find_kind_problems,
    find_pixelcnn_problems,
    find_vqvae_problems,
    report_image_size,
)
from vqdist.models.model_card import DataDescription, ModelCard
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

IMAGES = Manifest("images", (32, 48), 1, {})
CODES = Manifest(
    "codes", (32, 32), 1, {}, num_codes=16, grid=(8, 8), vqvae_fingerprint="a", num_slices=21, num_labels=2
)


def dataset(manifest: Manifest, **changes: object) -> Dataset:
    return Dataset(Path("data"), Path("data"), replace(manifest, **changes))


def messages(problems: list[Problem]) -> list[str]:
    return list(map(str, problems))


def test_images_of_a_vqvae() -> None:
    model = VQVAE(1, hidden=8, residual_hidden=4, residual_layers=1, downsample=8, code_dim=4, num_codes=16)
    assert not find_vqvae_problems(model, dataset(IMAGES))
    assert messages(find_vqvae_problems(model, dataset(IMAGES, channels=3, image_size=(32, 36)))) == [
        "data: channels: found 3; expected 1, the channels of the VQ-VAE",
        "data: image size: found 32 x 36; expected multiples of the downsampling 8",
    ]
    (problem,) = messages(find_vqvae_problems(model, dataset(CODES)))
    assert problem == "data: found a dataset of codes; expected a dataset of images for a VQ-VAE"
    assert not find_kind_problems(dataset(CODES), "codes", "a test")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"vqvae_fingerprint": None}, []),
        ({"num_codes": 8}, ["data: num_codes: found 8; expected 16, as in the model"]),
        ({"vqvae_fingerprint": "b"}, ["data: VQ-VAE of the codes: found b; expected a, the VQ-VAE of the model"]),
        ({"num_labels": None}, ["data: label: found none; expected one per sample, a condition of the model"]),
        ({"num_slices": 22, "num_labels": 3}, [
            "data: label: found numbers up to 2; expected up to 1",
            "data: slice: found numbers up to 21; expected up to 20",
        ]),
    ],
)  # fmt: skip
def test_codes_of_a_pixelcnn(changes: dict[str, object], expected: list[str]) -> None:
    model = PixelCNN(16, hidden=8, layers=1, condition="label+slice", num_labels=2, num_slices=21)
    assert messages(find_pixelcnn_problems(model, "a", dataset(CODES, **changes))) == expected


def test_conditions_of_other_models_do_not_matter() -> None:
    model = PixelCNN(16, hidden=8, layers=1)
    assert not find_pixelcnn_problems(model, "a", dataset(CODES, num_labels=None, num_slices=99))
    (problem,) = messages(find_pixelcnn_problems(model, "a", dataset(IMAGES)))
    assert problem.startswith("data: found a dataset of images; expected a dataset of codes for a PixelCNN")


def test_slices_of_another_size_than_in_training(capsys: pytest.CaptureFixture[str]) -> None:
    for trained in (None, (32, 48), (64, 64)):
        card = ModelCard("vqvae", {}, 0, "", data=DataDescription(image_size=trained))
        report_image_size(dataset(IMAGES), card, Path("run"), effect="its figures are not comparable")
    assert capsys.readouterr().err == (
        "WARNING: data has slices of 32 x 48, run was trained on slices of 64 x 64; its figures are not comparable\n"
    )
