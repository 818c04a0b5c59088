"""Encode the images of a dataset to a dataset of code maps: all ranks encode, rank 0 writes.

The written bytes do not depend on the number of ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from vqdist.config.augmentation import Mirror
from vqdist.config.command_options import EncodeOptions
from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.open_dataset import Dataset
from vqdist.data.orientation import choose_mirror, find_layout
from vqdist.data.remote.download import is_url
from vqdist.data.shards.codecs import encode_codes
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import find_output_problems, reporting_storage_errors
from vqdist.foundation.errors import Problem, UserError, check_option, collect
from vqdist.foundation.progress import ProgressBar, print_message
from vqdist.inference.augmented_views import Views
from vqdist.inference.changed_data import report_changed_data
from vqdist.inference.compatibility import find_vqvae_problems, report_image_size
from vqdist.inference.open_images import open_images
from vqdist.inference.saved_models import build_vqvae, read_vqvae_files, report_failed_training
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.work_sharing import map_in_rounds, run_on_main
from vqdist.models.io import VQVAE_FOLDER, ModelFiles
from vqdist.models.vqvae import VQVAE
from vqdist.runs.run_dir import RunDir
from vqdist.training.terminal import choose_launcher, join

RECOMMENDED_PRIOR = "pixelcnn_oasis"

EncodedSample = tuple[str, bytes, dict[str, Any]]  # key, payload, JSON


@dataclass(frozen=True)
class EncodingJob:
    """The checked inputs of an encoding.

    Attributes:
        files: the saved VQ-VAE, of which a copy goes into the dataset of codes.
        mirror: of every second view, chosen for the images if the options leave it open.
    """

    options: EncodeOptions
    files: ModelFiles
    model: VQVAE
    images: Dataset
    mirror: Mirror

    @property
    def views(self) -> Views:
        """The views of each train slice; the slices of other splits are encoded once."""
        return Views(self.options.views, self.options.shift, self.mirror)

    def run(self, ranks: Ranks) -> int:
        """Encode and write the dataset; return its number of samples. Must be called by all ranks."""
        model, batch_size = self.model.to(ranks.device), self.options.batch_size
        batches = encode_dataset(model, self.images, self.views, batch_size=batch_size, ranks=ranks)
        if not ranks.is_main:
            return sum(len(samples) for _, samples in batches)
        with reporting_storage_errors(self.options.out), open_writer(self) as writer:
            return write_codes(writer, batches, self)


def encode(options: EncodeOptions, ranks: Ranks) -> int:
    """Encode a dataset and return the number of samples of the dataset of codes. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the options, the model, the images and the output folder.
    """
    (job,) = collect(lambda: prepare_encoding(options, ranks), problems=options.find_conflicts())
    return job.run(ranks)


def prepare_encoding(options: EncodeOptions, ranks: Ranks) -> EncodingJob:
    """Read and check the inputs of an encoding; nothing is written. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the model, the images and the output folder.
    """
    files, images = collect(
        lambda: run_on_main(ranks, lambda: read_vqvae_files("--run", options.run)),
        lambda: check_option("--data", options.data, lambda: open_images(options.data, options)),
        problems=run_on_main(
            ranks, lambda: find_output_problems(f"--out {options.out}", options.out, overwrite=options.overwrite)
        ),
    )
    doubt = "its validate and test splits may contain images that the VQ-VAE was trained on"
    report_failed_training(options.run, files)
    report_changed_data(images, files.card, options.run, doubt=doubt)
    model, size = build_vqvae(files), images.manifest.image_size
    problems = find_vqvae_problems(model, images)
    mirror = choose_mirror(images.manifest) if options.mirror == "auto" else options.mirror
    if options.mirror == "auto" and not options.find_conflicts():
        problems += options.find_view_problems(mirror)
    if options.shift >= min(size):
        expected = f"less than the sides of the images, {size[0]} x {size[1]}"
        problems.append(Problem("--shift", str(options.shift), expected))
    if problems:
        raise UserError(problems)
    report_image_size(images, files.card, options.run, effect="its codes are not like those of the training data")
    if options.views > 1:
        print_message(describe_mirror(mirror, images.manifest, chosen=options.mirror == "auto"))
    return EncodingJob(options, files, model, images, mirror)


def describe_mirror(mirror: Mirror, manifest: Manifest, *, chosen: bool) -> str:
    """Return a message about the mirroring of the views, with the reason if it was chosen for the images."""
    found = "no view is mirrored" if mirror == "none" else f"every second view is mirrored {mirror}"
    if not chosen:
        return found
    layout = find_layout(manifest)
    reason = f"images of the layout {layout}" if layout else "images of unknown layout"
    return f"{found}, as for all {reason}; --mirror none, up-down or left-right overrides this"


def encode_dataset(
    model: VQVAE, images: Dataset, views: Views, *, batch_size: int, ranks: Ranks
) -> Iterator[tuple[str, list[EncodedSample]]]:
    """Yield the split and the encoded samples of each batch, in the order of the dataset, on every rank.

    Must be called by all ranks, and each must take every item.
    """
    for name, info in images.manifest.splits.items():
        if info.samples:
            split = SplitLoader(images, name, batch_size=batch_size)
            work = partial(encode_batch, model, split, views if name == "train" else Views())
            for samples in map_in_rounds(ranks, split.load_all(ranks, within_shards=True), work):
                yield name, samples


def encode_batch(model: VQVAE, split: SplitLoader, views: Views, batch: Batch) -> list[EncodedSample]:
    """Encode all views of the slices of a batch of a split."""
    infos = [split.read_info(number) for number in batch.positions.tolist()]
    images = to_images(batch.values.to(next(model.parameters()).device))
    encoded: list[EncodedSample] = []
    for number in range(views.number):
        chosen = [views.choose(info.get("subject") or key, number) for key, info in zip(batch.keys, infos, strict=True)]
        viewed = images
        if number:
            viewed = torch.stack([view.apply(image) for view, image in zip(chosen, images, strict=True)])
        codes = model.encode(viewed).cpu().numpy()
        encoded += [
            (view.name(key), encode_codes(grid, model.num_codes), view.describe(key, info))
            for view, key, info, grid in zip(chosen, batch.keys, infos, codes, strict=True)
        ]
    return encoded


def open_writer(job: EncodingJob) -> ShardSetWriter:
    """Return the writer of the dataset of codes. A shard of train holds all views of the slices of one image shard."""
    manifest, views, path = job.images.manifest, job.views, job.images.path
    sizes = [shard.samples for split in manifest.splits.values() for shard in split.shards]
    return ShardSetWriter(
        job.options.out,
        kind="codes",
        image_size=manifest.image_size,
        channels=manifest.channels,
        samples_per_shard=max(sizes, default=1) * views.number,
        overwrite=job.options.overwrite,
        source={
            "command": "vqdist.encode",
            "images": str(path if is_url(path) else Path(path).resolve()),
            "images_fingerprint": manifest.fingerprint,
            "images_source": manifest.source,
            **({} if (run := find_run_name(job.files.folder)) is None else {"vqvae_run": run}),
            **({"views": views.number, "shift": views.shift, "mirror": views.mirror} if views.number > 1 else {}),
        },
        num_codes=job.model.num_codes,
        grid=job.model.grid(*manifest.image_size),
        vqvae_fingerprint=job.files.card.fingerprint,
        class_names=manifest.class_names,
        affine=manifest.affine,
        attribute_kinds={name: attribute.kind for name, attribute in manifest.attributes.items()},
    )


def find_run_name(model: Path) -> str | None:
    """Return the name of the run that a saved model is in, None for a model without its run."""
    return model.resolve().parent.name if RunDir(model.parent).config.is_file() else None


def choose_condition(manifest: Manifest) -> Literal["slice", "label", "none"]:
    """Return what all training samples have that a prior can be conditioned on: slice numbers, or else classes."""
    labels, numbers = ({pair[place] for pair in manifest.conditions} for place in (0, 1))
    if numbers and None not in numbers:
        return "slice"
    return "label" if len(labels) > 1 and None not in labels else "none"


def describe_attributes(manifest: Manifest) -> str | None:
    """Return which attributes the codes have and the flags that condition a prior on them; None without attributes."""
    if not manifest.attributes:
        return None
    condition = choose_condition(manifest)
    names = [*([] if condition == "none" else [condition]), *manifest.attributes]
    flags = join("", "--model.condition", f"[{', '.join(names)}]", "--model.condition_dropout", "0.1")
    return f"attributes {', '.join(manifest.attributes)}: add {flags} to use them"


def propose_training(job: EncodingJob) -> str:
    """Return the command that trains a prior of the written codes; its configuration is conditioned on the slice."""
    out = job.options.out
    condition = choose_condition(load_manifest(out))
    name = f"{find_run_name(job.files.folder) or out.resolve().name.removesuffix('-codes')}-prior"
    words = ["train", "--config", RECOMMENDED_PRIOR, "--data.path", str(out), "--run.name", name]
    launcher = choose_launcher(on_cpu=next(job.model.parameters()).device.type == "cpu")
    return join(launcher, *words, *([] if condition == "slice" else ["--model.condition", condition]))


def write_codes(writer: ShardSetWriter, batches: Iterator[tuple[str, list[EncodedSample]]], job: EncodingJob) -> int:
    """Write the encoded samples and a copy of the VQ-VAE; return the number of samples."""
    splits = job.images.manifest.splits.items()
    total = sum(split.samples * (job.views.number if name == "train" else 1) for name, split in splits)
    with ProgressBar(total, unit="slices", label="encode") as shown:
        for split, samples in batches:
            for key, payload, info in samples:
                writer.write(split, key, payload, info)
            shown.advance(len(samples))
        (writer.folder / VQVAE_FOLDER).mkdir()
        for name, content in job.files.contents.items():
            (writer.folder / VQVAE_FOLDER / name).write_bytes(content)
    return shown.done
