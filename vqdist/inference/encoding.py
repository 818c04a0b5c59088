"""Images into maps of codes: all ranks encode, a shard each at a time; rank 0 writes.

The bytes do not depend on the ranks: batches begin with their shard, and shards are written in their order.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from vqdist.config.command_options import EncodeOptions
from vqdist.data.loading.batch import to_images
from vqdist.data.open import open_dataset
from vqdist.data.shards.codecs import encode_codes
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import Problem, UserError, collect
from vqdist.foundation.progress import ProgressBar
from vqdist.foundation.staging import check_output
from vqdist.inference.augmented_views import Views
from vqdist.inference.batches import fixed_batches, gather_outcomes, on_main, read_samples, stack_values
from vqdist.inference.compatibility import require_kind, vqvae_problems
from vqdist.models.io import ModelFiles, build_model, fingerprint_of, read_model_files
from vqdist.models.vqvae import VQVAE

Encoded = list[tuple[str, bytes, dict[str, Any]]]  # key, payload and info of each sample of a shard


def encode(options: EncodeOptions, ranks: Ranks, problems: Sequence[Problem] = ()) -> int:
    """Encode a data set and return its number of samples. Collective: all ranks."""
    files, (data, manifest), _ = collect(
        lambda: on_main(ranks, lambda: read_model_files(options.run, kind="vqvae")),
        lambda: open_dataset(options.data),
        lambda: on_main(ranks, lambda: check_output(options.out, overwrite=options.overwrite)),
        problems=problems,
    )
    model = build_model(files)
    assert isinstance(model, VQVAE)
    require_kind(data, manifest, "images", "they are what is encoded")
    misfits = vqvae_problems(model, data, manifest)
    if options.shift >= min(manifest.image_size):
        expected = f"less than the sides of the images, {manifest.image_size[0]} x {manifest.image_size[1]}"
        misfits.append(Problem("--shift", str(options.shift), expected))
    if misfits:
        raise UserError(misfits)
    views = Views(options.views, options.shift, options.mirror)
    rounds = encode_rounds(model.to(ranks.device), data, manifest, ranks, views, batch_size=options.batch_size)
    if not ranks.is_main:
        return sum(len(shard) for _, shard in rounds)
    with reporting_storage_errors(options.out), open_writer(options, manifest, model, fingerprint_of(files)) as writer:
        return write_rounds(writer, rounds, files, total=count_maps(manifest, views))


def encode_rounds(
    model: VQVAE, data: Path, manifest: Manifest, ranks: Ranks, views: Views, *, batch_size: int
) -> Iterator[tuple[str, Encoded]]:
    """Yield split and samples of every encoded shard, in the data set's order, on every rank.

    A round is W shards, one for each rank, so that rank 0 never holds more than a round.
    Collective: all ranks, each must take every item.
    """
    readers = {split: ShardReader(data, manifest, split) for split in manifest.splits}
    shards = [(split, shard) for split, reader in readers.items() for shard in range(len(reader.shard_sizes))]
    for start in range(0, len(shards), ranks.world_size):
        this_round = shards[start : start + ranks.world_size]

        def work(this_round: list[tuple[str, int]] = this_round) -> Encoded:
            if ranks.rank >= len(this_round):
                return []
            split, shard = this_round[ranks.rank]
            shown = views if split == "train" else Views()
            return encode_shard(model, readers[split], shard, manifest, shown, batch_size=batch_size)

        encoded = gather_outcomes(ranks, work)
        yield from zip((split for split, _ in this_round), encoded, strict=False)


def encode_shard(
    model: VQVAE, reader: ShardReader, shard: int, manifest: Manifest, views: Views, *, batch_size: int
) -> Encoded:
    """Encode the views of the samples of one shard, in batches that begin with it."""
    first = int(reader.shard_sizes[:shard].sum())
    device = next(model.parameters()).device
    encoded: Encoded = []
    for numbers in fixed_batches(int(reader.shard_sizes[shard]), batch_size=batch_size):
        samples = read_samples(reader, first + numbers)
        images = to_images(stack_values(samples, manifest).to(device))
        for number in range(views.number):
            shown = [views.choose(sample["__key__"], number) for sample in samples]
            with torch.inference_mode():
                turned = (view.apply(image) for view, image in zip(shown, images, strict=True))
                seen = torch.stack(list(turned)) if number else images
                codes = model.encode(seen).cpu().numpy()
            encoded += [
                (
                    view.name(sample["__key__"]),
                    encode_codes(grid, model.num_codes),
                    view.describe(sample["__key__"], sample["json"]),
                )
                for view, sample, grid in zip(shown, samples, codes, strict=True)
            ]
    return encoded


def open_writer(options: EncodeOptions, manifest: Manifest, model: VQVAE, origin: str) -> ShardSetWriter:
    """Return the writer of the data set of codes; a shard of train holds the views of one of the images."""
    sizes = [shard.samples for split in manifest.splits.values() for shard in split.shards]
    views = {"views": options.views, "shift": options.shift, "mirror": options.mirror} if options.views > 1 else {}
    return ShardSetWriter(
        options.out,
        kind="codes",
        image_size=manifest.image_size,
        channels=manifest.channels,
        samples_per_shard=max(sizes, default=1) * options.views,
        overwrite=options.overwrite,
        source={
            "command": "vqdist.encode",
            "images": str(options.data.resolve()),
            "images_fingerprint": manifest.fingerprint,
            "images_source": manifest.source,
            **views,
        },
        num_codes=model.num_codes,
        grid=model.grid(*manifest.image_size),
        vqvae_fingerprint=origin,
        class_names=manifest.class_names,
    )


def write_rounds(
    writer: ShardSetWriter, rounds: Iterator[tuple[str, Encoded]], files: ModelFiles, *, total: int
) -> int:
    """Write the encoded shards and, beside them, the VQ-VAE that made them; return the number of samples."""
    with ProgressBar(total, unit="slices", label="encode") as shown:
        for split, encoded in rounds:
            for key, payload, info in encoded:
                writer.write(split, key, payload, "npy", info)
            shown.advance(len(encoded))
        vqvae = writer.folder / "vqvae"
        vqvae.mkdir()
        (vqvae / "config.json").write_text(json.dumps(files.config, indent=2))
        (vqvae / "model.safetensors").write_bytes(files.weights)
    return shown.done


def count_maps(manifest: Manifest, views: Views) -> int:
    """Return the number of maps that a data set gives."""
    return sum(split.samples * (views.number if name == "train" else 1) for name, split in manifest.splits.items())
