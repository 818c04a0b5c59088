"""Samples per second in uint8 batches, from PNG shards and from the memory cache, against other loaders."""

import io
import itertools
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqdist.benchmarks.measure import Bench, Result, compare, print_skipped
from vqdist.config.schema import DataSection
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.sample_cache import open_caches
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.phantom import phantom_slice

BATCH_SIZE = 16
WORKERS = 2
DISTINCT_SLICES = 128
WARMUP_IMAGES = 32
Batches = Iterator[Any]


def run(bench: Bench) -> list[Result]:
    """Measure loading of synthetic slices: ours, other loaders, and the decoders alone."""
    size, samples = bench.size(256, 32), bench.size(2048, 64)
    duration_s = 0.05 if bench.small else 1.5
    with tempfile.TemporaryDirectory() as folder:
        data, pictures = Path(folder, "shards"), Path(folder, "pictures")
        write_slices(data, pictures, samples, size)
        return [
            *_compare_loaders(bench, data, pictures, size, duration_s=duration_s),
            *_compare_cache(bench, data, duration_s),
        ]


def _compare_loaders(bench: Bench, data: Path, pictures: Path, size: int, *, duration_s: float) -> list[Result]:
    payloads = _read_payloads(data, 512)
    decoders: dict[str, Callable[[bytes], object]] = {
        "Pillow": _decode_with_pillow,
        "vqdist": partial(decode_png, image_size=(size, size), channels=1),
    }
    measures: dict[str, Callable[[], float]] = {
        "ours": partial(loading_rate, our_batches(data), duration_s),
    }
    peer = "ImageFolder, Grayscale, DataLoader"
    try:
        measures[peer] = partial(loading_rate, folder_batches(pictures), duration_s)
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision and torch are of different builds
        print_skipped("loader", peer, f"{error}; pip install vqdist[bench]")
    measures["webdataset, Pillow"] = partial(loading_rate, webdataset_batches(data), duration_s)
    for name, decode in decoders.items():
        case = f"decoding alone in {WORKERS} processes, {name}"
        measures[case] = partial(decoding_rate, decode, payloads, duration_s)
    rates = bench.measure_in_turn(measures)
    case = f"PNG shards, {size} x {size}, {WORKERS} workers, uint8 batches of {BATCH_SIZE}"
    return compare("loader", case, "samples/s", rates.pop("ours"), rates)


def _compare_cache(bench: Bench, data: Path, duration_s: float) -> list[Result]:
    rates = bench.measure_in_turn(
        {
            "ours": partial(loading_rate, our_batches(data, cache=True), duration_s),
            "ours, from PNG": partial(loading_rate, our_batches(data), duration_s),
        }
    )
    case = f"decoded samples in memory (data.cache memory), {WORKERS} workers, uint8 batches of {BATCH_SIZE}"
    return compare("loader", case, "samples/s", rates.pop("ours"), rates)


def loading_rate(batches: Batches, duration_s: float) -> float:
    """Return samples per second, after the batches that were prefetched between measurements are used up."""
    for _ in range(10):
        next(batches)
    samples, start_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < duration_s:
        samples += len(next(batches))
    return samples / elapsed_s


def write_slices(data: Path, pictures: Path, samples: int, size: int) -> None:
    """Write the same synthetic slices as shards and as a folder of PNG files saved by Pillow."""
    from PIL import Image

    slices = [phantom_slice(number // 8, 4 + 3 * (number % 8), image_size=size) for number in range(DISTINCT_SLICES)]
    (pictures / "slices").mkdir(parents=True)
    layout: dict[str, Any] = {"kind": "images", "image_size": (size, size), "channels": 1}
    with ShardSetWriter(data, **layout, samples_per_shard=samples // 8) as writer:
        for number in range(samples):
            pixels = slices[number % DISTINCT_SLICES]
            info = {"subject": f"s{number // 32}", "slice": number % 32, "label": 0, "source": "synthetic"}
            writer.write_image("train", f"k{number:06d}", pixels[None], info)
            Image.fromarray(pixels).save(pictures / "slices" / f"k{number:06d}.png")


def our_batches(data: Path, *, cache: bool = False) -> Batches:
    """Yield the batches of a training run. With `cache`, the first batch comes after every sample is cached."""
    manifest = load_manifest(data)
    caches = open_caches(manifest, token=uuid.uuid4().hex, fallback_folder=data.parent) if cache else {}
    for opened in caches.values():
        opened.unlink()
    settings = DataSection(path=str(data), global_batch_size=BATCH_SIZE, num_workers=WORKERS)
    pipeline = DataPipeline(str(data), manifest, settings, seed=0, rank=0, world_size=1, timeout_s=300, caches=caches)
    steps = pipeline.train_steps(0)
    if cache:
        while not caches["train"].is_complete():
            next(steps)
    for micro_batches in steps:
        yield micro_batches[0].values


def folder_batches(pictures: Path) -> Batches:
    """Return shuffled batches of torchvision's ImageFolder, loaded by torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Grayscale, PILToTensor

    dataset = ImageFolder(str(pictures), Compose([Grayscale(), PILToTensor()]))
    loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
    return (images for _ in itertools.count() for images, _ in loader)


def webdataset_batches(data: Path) -> Batches:
    """Yield batches of the same shards, loaded by WebDataset and decoded by Pillow."""
    import webdataset as wds

    shards = [str(path) for path in sorted(data.glob("train/*.tar"))]
    dataset = wds.WebDataset(shards, shardshuffle=False).decode("l8").to_tuple("png").batched(BATCH_SIZE)
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    while True:
        for (images,) in loader:
            yield torch.as_tensor(np.asarray(images))


def _read_payloads(data: Path, limit: int) -> list[bytes]:
    reader = ShardReader(data, load_manifest(data), "train")
    return [reader.read(number)["png"] for number in range(min(limit, len(reader)))]


def _decode_with_pillow(payload: bytes) -> object:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(payload)))


def decoding_rate(decode: Callable[[bytes], object], payloads: list[bytes], duration_s: float) -> float:
    """Return how many PNG files `WORKERS` processes decode per second if they do nothing else."""
    with ProcessPoolExecutor(WORKERS) as pool:
        shares = [pool.submit(_decode_for, decode, payloads[rank::WORKERS], duration_s) for rank in range(WORKERS)]
        return sum(share.result() for share in shares)


def _decode_for(decode: Callable[[bytes], object], payloads: list[bytes], duration_s: float) -> float:
    torch.set_num_threads(1)
    for payload in payloads[:WARMUP_IMAGES]:
        decode(payload)
    count, start_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < duration_s:
        decode(payloads[count % len(payloads)])
        count += 1
    return count / elapsed_s
