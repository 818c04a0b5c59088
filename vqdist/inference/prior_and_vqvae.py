"""A PixelCNN with the VQ-VAE of its codes: from images to codes, their bits, and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqdist.config.slice_options import SliceOptions
from vqdist.data.previous_slices import NO_PREVIOUS
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import find_output_problems
from vqdist.foundation.errors import check_option, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.inference.augmented_views import View
from vqdist.inference.condition_words import read_words, split_words
from vqdist.inference.conditions import Value
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.saved_models import build_pixelcnn, build_vqvae, read_vqvae_of, report_failed_training
from vqdist.inference.slice_source import SliceSource
from vqdist.inference.work_sharing import run_on_main
from vqdist.models.io import ModelFiles, read_model_files
from vqdist.models.map_conditions import NO_CODE, MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

# Every pass has about this many maps: fewer use a CPU badly, more need much memory.
MAPS_PER_PASS = 64


@dataclass(frozen=True)
class PriorAndVQVAE:
    """The two models.

    Attributes:
        image_size: side of the images that the VQ-VAE was trained on; pictures are resized to it.
        class_names: names of the labels.
    """

    prior: PixelCNN
    vqvae: VQVAE
    image_size: int
    class_names: tuple[str, ...] = ()

    @classmethod
    def build(cls, files: tuple[ModelFiles, ModelFiles]) -> "PriorAndVQVAE":
        """Build the models of the files that `read_prior_files` returns."""
        prior, vqvae = files
        size = max(vqvae.image_size)
        return cls(build_pixelcnn(prior), build_vqvae(vqvae), size, tuple(prior.card.data.class_names))

    @property
    def grid(self) -> tuple[int, int]:
        """The size (h, w) of a code map."""
        return self.vqvae.grid(self.image_size, self.image_size)

    @property
    def symmetric(self) -> bool:
        """Whether the lower half of a slice resembles the mirrored upper half."""
        return self.prior.opposite is not None

    @property
    def device(self) -> torch.device:
        return self.prior.embedding.weight.device

    def to(self, device: torch.device) -> None:
        """Move both models to a device."""
        self.prior.to(device)
        self.vqvae.to(device)

    def add_previous(
        self,
        known: MapConditions,
        source: SliceSource,
        numbers: Sequence[int],
        views: Sequence[View] = (View(),),
    ) -> MapConditions:
        """Return the conditions of some slices with the codes of the previous slices, if the prior reads them.

        Args:
            known: the other conditions of these slices.
            views: of each slice; the conditions of all slices under one view come before those under the next.
        """
        known = known.select([place for _ in views for place in range(len(numbers))])
        if not self.prior.reads_previous:
            return known
        codes = torch.full((len(views), len(numbers), *self.grid), NO_CODE)
        before = [int(source.previous[number]) for number in numbers]
        places = [place for place, number in enumerate(before) if number != NO_PREVIOUS]
        if places:
            pixels = [source.read(before[place]) for place in places]
            images = torch.stack([PictureFrame(found.shape[1:], self.image_size).to_model(found) for found in pixels])
            for number, view in enumerate(views):
                shifted = torch.stack([view.apply(image) for image in images])
                codes[number, places] = self.vqvae.encode(shifted.to(self.device)).cpu()
        return replace(known, previous=codes.flatten(0, 1))

    def read_conditions(self, words: Mapping[str, str]) -> dict[str, Value]:
        """Return the encoded values of the words of --condition, one for each name; ConfigError as `read_words`."""
        return {name: values[0] for name, values in read_words(words, self.prior.spec, self.class_names).items()}

    def count_bits(self, codes: Tensor, conditions: MapConditions) -> Tensor:
        """Return the bits of each code, (B, h, w), computed for at most MAPS_PER_PASS maps at a time."""
        parts = [
            self.prior.bits(part, conditions=conditions.select(range(start, start + len(part))))
            for start, part in zip(range(0, len(codes), MAPS_PER_PASS), codes.split(MAPS_PER_PASS), strict=True)
        ]
        return torch.cat(parts)


def read_prior_files(prior: Path) -> tuple[ModelFiles, ModelFiles]:
    """Read the PixelCNN of --prior and the VQ-VAE that is saved with it."""
    files = check_option("--prior", show_model_name(prior), lambda: read_model_files(prior, kind="pixelcnn"))
    report_failed_training(prior, files)
    return files, read_vqvae_of(files)


def read_prior_and_conditions(
    options: SliceOptions, ranks: Ranks, *checks: Callable[[], Any]
) -> tuple[tuple[ModelFiles, ModelFiles], dict[str, str], list[Any]]:
    """Read the files of the models and the words of the given conditions, and check the output folder.

    Must be called by all ranks.

    Args:
        checks: run on rank 0, with the others.
    Returns:
        The files of the PixelCNN and of its VQ-VAE, the words, and the results of the checks.
    Raises:
        ConfigError: every problem of the models, the conditions, the output folder and the checks.
    """
    files, given, *found = collect(
        lambda: run_on_main(ranks, lambda: read_prior_files(options.prior)),
        lambda: split_words(options.condition),
        *(partial(run_on_main, ranks, check) for check in checks),
        problems=run_on_main(
            ranks, lambda: find_output_problems(f"--out {options.out}", options.out, overwrite=options.overwrite)
        ),
    )
    return files, given, found
