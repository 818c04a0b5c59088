"""Score slices with a PixelCNN: bits, anomaly maps and restored slices; all ranks compute, rank 0 writes.

The result of a slice depends on the seed, the slice and the healthy slices, not on the number of ranks or of slices.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.config.slice_options import ScoreOptions
from vqdist.data.open_dataset import Dataset
from vqdist.data.remote.download import is_url
from vqdist.data.shards.manifest import MANIFEST, SPLITS
from vqdist.data.shards.shard_files import find_shards
from vqdist.data.shards.tar_lists import names_tars
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError, check_option, collect
from vqdist.foundation.progress import ProgressBar, print_message
from vqdist.inference.anomaly.calibration import Calibration
from vqdist.inference.anomaly.maps import compute_excess, score_comparison
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.prior_draws import Condition, PriorDraws, draw_slices, keep_inside
from vqdist.inference.anomaly.reference import ASSUMED, FEW_SUBJECTS, BitLimits, HealthyReference
from vqdist.inference.anomaly.restoration import SliceParts, compute_parts, list_shifts
from vqdist.inference.anomaly.training_slices import TrainingSlices, explain_missing_images, find_training_images
from vqdist.inference.conditions import list_train_rows
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.prior_and_vqvae import MAPS_PER_PASS, PriorAndVQVAE, read_prior_and_conditions
from vqdist.inference.sampling import draw_noise
from vqdist.inference.score_masks import Masks, list_masks, read_masks_early
from vqdist.inference.slice_conditions import choose_conditions
from vqdist.inference.slice_source import (
    SliceInfo,
    SliceSource,
    VolumeSizes,
    list_pictures,
    open_pictures,
    open_slices,
    open_split,
)
from vqdist.inference.slice_warnings import report_conditions, report_healthy, report_volume_numbers
from vqdist.inference.work_sharing import map_in_rounds, run_on_main
from vqdist.models.map_conditions import MapConditions


@dataclass(frozen=True)
class SliceSet:
    """Slices with their conditions."""

    source: SliceSource
    conditions: MapConditions

    def number(self, index: int) -> int | None:
        """Return the slice number, None if unknown: that of the prior's condition, else that of the slice."""
        condition = self.condition(index)
        return self.source.infos[index].slice if condition.slice is None else condition.number

    def condition(self, index: int) -> Condition:
        """Return the conditions of a slice; None for a label or slice number that the prior is not conditioned on."""
        return Condition.of(self.conditions, index)


@dataclass(frozen=True)
class ScoredSlice:
    """The result of a slice.

    Attributes:
        shape: (H, W) of the picture; `parts` and `excess` have the size of the model's images.
        excess: (S, S) how far each pixel exceeds what is usual; see `compute_excess`.
        p_value: share of slices with at least this score, of the healthy ones and this one; None without healthy ones.
        flagged: None without healthy slices.
    """

    info: SliceInfo
    number: int | None
    shape: tuple[int, ...]
    parts: SliceParts
    excess: Tensor
    score: float
    p_value: float | None
    flagged: bool | None

    @property
    def bits(self) -> float:
        """The bits of the whole map."""
        return float(self.parts.bits.double().sum())


@dataclass(frozen=True)
class Scorer:
    """The checked inputs of a scoring.

    Attributes:
        healthy: None without.
        training: the training images of the prior; None if they are not found.
        masks: None without --masks.
    """

    options: ScoreOptions
    method: ScoringMethod
    models: PriorAndVQVAE
    slices: SliceSet
    healthy: SliceSet | None
    training: Dataset | None = None
    masks: Masks | None = None

    @cached_property
    def training_slices(self) -> TrainingSlices | None:
        """The reference slices of all slices; None: each has those that the prior draws under its condition."""
        return None if self.training is None else TrainingSlices.load(self.training)

    def draw(self, ranks: Ranks) -> dict[Condition, PriorDraws]:
        """Draw slices of every condition that occurs, if they are needed. Must be called by all ranks."""
        if self.training is not None and self.healthy is not None:
            return {}
        sets = [self.slices] if self.healthy is None else [self.slices, self.healthy]
        conditions = {found.condition(index): None for found in sets for index in range(len(found.source))}
        listed = list(conditions)

        def work(condition: Condition) -> PriorDraws:
            return draw_slices(self.models, condition, self.method.draws, self.options.seed)

        drawn: list[PriorDraws] = []
        each = self.method.draws
        reason = "without --healthy"
        if self.healthy is not None:
            size, channels = self.models.image_size, self.models.vqvae.channels
            named = list_named(self.options)
            faults = explain_missing_images(self.options.prior, named, image_size=size, channels=channels)
            looked = "looked for from data.path of the run, and in the dataset of --healthy or --data"
            reason = f"without the training images ({looked}: {faults})"
        print_message(f"{reason}, slices are compared with {each} that the prior draws for each of their conditions")
        with ProgressBar(len(listed) * each, unit="slices", label="slices drawn for comparison") as shown:
            for found in map_in_rounds(ranks, listed[ranks.rank :: ranks.world_size], work):
                drawn.append(found)
                shown.advance(each)
        return dict(zip(listed, drawn, strict=True))

    def compute_limits(self, draws: Mapping[Condition, PriorDraws], ranks: Ranks) -> BitLimits:
        """Return the limits above which a code is redrawn, from the healthy slices or else from draws of the prior.

        Must be called by all ranks.
        """
        if self.healthy is None:
            drawn = [found.bits for found in draws.values()]
            return BitLimits(drawn, [condition.number for condition in draws], [""] * len(drawn), self.method)
        healthy, found, size = self.healthy, list[npt.NDArray[np.float32]](), MAPS_PER_PASS
        batches = split_in_batches(len(healthy.source), size)
        for bits in map_in_rounds(ranks, batches[ranks.rank :: ranks.world_size], self._count):
            found += bits
        subjects = [info.subject for info in healthy.source.infos]
        return BitLimits(found, [healthy.number(index) for index in range(len(found))], subjects, self.method)

    def _count(self, batch: range) -> list[npt.NDArray[np.float32]]:
        assert self.healthy is not None
        images = torch.stack([self._load(self.healthy, index)[1] for index in batch]).to(self.models.device)
        known = self.models.add_previous(self.healthy.conditions.select(batch), self.healthy.source, batch)
        bits = self.models.count_bits(self.models.vqvae.encode(images), known)
        return keep_inside(images, bits, self.models.vqvae.downsample, above=0.0)

    def compute_parts(
        self,
        slices: SliceSet,
        limits: BitLimits,
        draws: Mapping[Condition, PriorDraws],
        ranks: Ranks,
        *,
        label: str,
    ) -> Iterator[tuple[tuple[int, ...], SliceParts]]:
        """Yield the shape and the parts of each slice, on every rank. Must be called by all ranks."""
        h, w = self.models.grid
        noise = draw_noise(range(self.method.restorations), h * w, self.models.prior.num_codes, self.options.seed)
        batches = split_in_batches(len(slices.source), max(1, MAPS_PER_PASS // self.method.restorations))

        def work(batch: range) -> list[tuple[tuple[int, ...], SliceParts]]:
            loaded = [self._load(slices, index) for index in batch]
            images = torch.stack([image for _, image in loaded]).to(self.models.device)
            bounds = torch.tensor(
                [limits.find(slices.number(i), without=slices.source.infos[i].subject) for i in batch]
            )
            views = list_shifts(self.models.vqvae.downsample, self.method)
            known = slices.conditions.select(batch)
            conditions = self.models.add_previous(known, slices.source, batch, views)
            references = [self._find_references(slices, index, draws) for index in batch]
            parts = compute_parts(self.models, images, bounds, conditions, noise, references, self.method)
            return [(shape, part) for (shape, _), part in zip(loaded, parts, strict=True)]

        with ProgressBar(len(slices.source), unit="slices", label=label) as shown:
            for results in map_in_rounds(ranks, batches[ranks.rank :: ranks.world_size], work):
                yield from results
                shown.advance(len(results))

    def score_training(self, reference: HealthyReference, ranks: Ranks) -> tuple[list[float], list[str]]:
        """Return scores and subjects of training slices, if the healthy slices are of few subjects.

        Must be called by all ranks.
        """
        healthy = reference.subjects
        if self.training_slices is None or len(healthy) >= FEW_SUBJECTS:
            return [], []
        slices = self.training_slices
        chosen = slices.choose_scored(without=healthy)

        def work(index: int) -> float:
            return slices.score(index, reference, self.method, symmetric=self.models.symmetric)

        scores = []
        with ProgressBar(len(chosen), unit="slices", label="training slices") as shown:
            for score in map_in_rounds(ranks, chosen[ranks.rank :: ranks.world_size], work):
                scores.append(score)
                shown.advance(1)
        return scores, slices.subjects[chosen].tolist()

    def _find_references(self, slices: SliceSet, index: int, draws: Mapping[Condition, PriorDraws]) -> Tensor:
        if self.training_slices is None:
            return draws[slices.condition(index)].images
        subject = slices.source.infos[index].subject
        return self.training_slices.near(slices.number(index), self.method.reference_reach, without=subject)

    def _load(self, slices: SliceSet, index: int) -> tuple[tuple[int, ...], Tensor]:
        pixels = slices.source.read(index)
        shape = pixels.shape[1:]
        return shape, PictureFrame(shape, self.models.image_size).to_model(pixels)


def score_slice(
    scorer: Scorer, index: int, shape: tuple[int, ...], parts: SliceParts, calibration: Calibration | None
) -> ScoredSlice:
    """Return the result of a slice from its parts."""
    info, number = scorer.slices.source.infos[index], scorer.slices.number(index)
    usual = ASSUMED if calibration is None else calibration.reference.statistics(number, without=info.subject)
    excess = compute_excess(parts.signals, parts.brain, usual, scorer.method)
    score = score_comparison(parts.signals.comparison, parts.brain, usual, scorer.method)
    p_value = None if calibration is None else calibration.p_value(score)
    flagged = None if calibration is None else calibration.flags(score)
    return ScoredSlice(info, number, shape, parts, excess, score, p_value, flagged)


def prepare_scoring(options: ScoreOptions, ranks: Ranks) -> Scorer:
    """Read and check the inputs; nothing is written. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the model, the slices, the masks, the healthy slices and the output folder.
    """
    files, given, (masks,) = read_prior_and_conditions(options, ranks, lambda: read_masks_early(options))
    models = PriorAndVQVAE.build(files)
    channels = models.vqvae.channels
    sizes = VolumeSizes(models.image_size, models.prior.num_slices)

    def prepare(source: SliceSource) -> SliceSet:
        return SliceSet(
            source, choose_conditions(models.prior, source.infos, models.read_conditions(given), models.class_names)
        )

    slices, healthy = collect(
        lambda: prepare(open_slices(options, options.masks, channels=channels, sizes=sizes)),
        lambda: None if options.healthy is None else prepare(open_healthy(options.healthy, channels)),
    )
    if options.masks is not None and masks is None:  # of a volume
        masks = run_on_main(ranks, lambda: list_masks(options, slices.source))
    rows = list_train_rows(files[0].card.data, models.prior.spec)
    report_conditions(slices.conditions, models.prior.spec, rows)
    if "slice" in models.prior.spec.names and "slice" not in given:
        report_volume_numbers(slices.source, options.prior)
    if options.healthy is not None:
        report_healthy(*split_healthy(options.healthy), options.prior)
    method = ScoringMethod(
        restorations=options.restorations,
        restore_percentile=options.restore_percentile,
        false_positive_rate=options.false_positive_rate,
    )
    models.to(ranks.device)
    training = find_training_images(options.prior, list_named(options), image_size=models.image_size, channels=channels)
    return Scorer(options, method, models, slices, healthy, training, masks)


def list_named(options: ScoreOptions) -> list[Path]:
    """Return the datasets, or the folders of pictures, of --healthy and --data."""
    named = [] if options.healthy is None else [split_healthy(options.healthy)[0]]
    return named + ([] if options.data is None else [options.data])


def split_healthy(text: str) -> tuple[Path, str]:
    """Return folder and split of --healthy, DIR or DIR:SPLIT; a SPLIT that does not exist only if DIR is a folder."""
    folder, colon, split = text.rpartition(":")
    names_split = bool(colon) and (split in SPLITS or (Path(folder).is_dir() and not Path(text).exists()))
    return (Path(folder), split) if names_split else (Path(text), "validate")


def open_healthy(text: str, channels: int) -> SliceSource:
    """Return the healthy slices: of a dataset, or the pictures of a folder."""
    folder, split = split_healthy(text)
    return check_option("--healthy", folder, lambda: _open_healthy_folder(folder, split, channels))


def _open_healthy_folder(folder: Path, split: str, channels: int) -> SliceSource:
    is_named = is_url(folder) or names_tars(folder)
    if not is_named and not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise DataError.of(str(folder), found, "a dataset of healthy slices, or a folder of their pictures")
    is_dataset = is_named or (folder / MANIFEST).exists() or bool(find_shards(folder).tars)
    if folder.is_dir() and not is_dataset and split in SPLITS:
        pictures = list_pictures(folder, dataset_option="--healthy DATA")
        return open_pictures(folder, pictures, channels=channels)
    return open_split(folder, split, channels=channels)


def split_in_batches(count: int, size: int) -> list[range]:
    """Return consecutive numbers from 0 in batches."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
