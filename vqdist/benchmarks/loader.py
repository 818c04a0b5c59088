"""Samples a second into collated uint8 batches, from PNG shards and from the memory cache, against other loaders."""

import io
import itertools
import multiprocessing
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from vqdist.benchmarks.measure import Bench, Result, compare, left_out
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
DISTINCT = 128
Batches = Iterator[Any]


def run(bench: Bench) -> list[Result]:
    """Measure the part, on made-up slices."""
    size, samples = bench.size(256, 32), bench.size(2048, 64)
    seconds = 0.05 if bench.small else 1.5
    with tempfile.TemporaryDirectory() as folder:
        data, pictures = Path(folder, "shards"), Path(folder, "pictures")
        write_slices(data, pictures, samples, size)
        streams: dict[str, Batches] = {
            "ours": our_batches(data),
            "webdataset, Pillow": webdataset_batches(data),
        }
        name = "ImageFolder, Grayscale, DataLoader"
        try:
            streams[name] = folder_batches(pictures)
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision and torch are of different builds
            left_out("loader", name, f"{error}; pip install vqdist[bench]")
        measures: dict[str, Callable[[], float]] = {
            name: partial(_rate, stream, seconds) for name, stream in streams.items()
        }
        payloads = _read_payloads(data, min(samples, 512))
        for name, decode in (("Pillow", _decode_by_pillow), ("vqdist", partial(_decode_by_us, size))):
            measures[f"decoding alone in {WORKERS} processes, {name}"] = partial(
                decoding_rate, decode, payloads, seconds
            )
        rates = _in_turn(bench, measures)
        ours = rates.pop("ours")
        case = f"PNG shards, {size} x {size}, {WORKERS} workers, uint8 batches of {BATCH_SIZE}"
        results = compare("loader", case, "samples/s", ours, rates)
        streams.clear()
        return results + _compare_cache(bench, data, seconds)


def _compare_cache(bench: Bench, data: Path, seconds: float) -> list[Result]:
    measures = {
        "ours": partial(_rate, our_batches(data, cache=True), seconds),
        "ours, from PNG": partial(_rate, our_batches(data), seconds),
    }
    rates = _in_turn(bench, measures)
    case = f"decoded samples in memory (data.cache memory), {WORKERS} workers, uint8 batches of {BATCH_SIZE}"
    return compare("loader", case, "samples/s", rates.pop("ours"), rates)


def _in_turn(bench: Bench, measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(bench.repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: median(values) for name, values in found.items()}


def _rate(batches: Batches, seconds: float) -> float:
    """Return samples a second once what was loaded ahead, while others had their turn, is used up."""
    for _ in range(10):
        next(batches)
    samples, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds:
        samples += len(next(batches))
    return samples / taken


def write_slices(data: Path, pictures: Path, samples: int, size: int) -> None:
    """Write the same slices as shards and, as people have them, as a folder of pictures saved by Pillow."""
    from PIL import Image

    slices = [phantom_slice(number // 8, 4 + 3 * (number % 8), image_size=size) for number in range(DISTINCT)]
    (pictures / "slices").mkdir(parents=True)
    facts: dict[str, Any] = {"kind": "images", "image_size": (size, size), "channels": 1}
    with ShardSetWriter(data, **facts, samples_per_shard=samples // 8) as writer:
        for number in range(samples):
            pixels = slices[number % DISTINCT]
            info = {"subject": f"s{number // 32}", "slice": number % 32, "label": 0, "source": "made up"}
            writer.write_image("train", f"k{number:06d}", pixels[None], info)
            Image.fromarray(pixels).save(pictures / "slices" / f"k{number:06d}.png")


def our_batches(data: Path, *, cache: bool = False) -> Batches:
    """Yield batches as a run gets them; with a cache, once every sample is in it."""
    manifest = load_manifest(data)
    caches = open_caches(manifest, token=uuid.uuid4().hex, spare_folder=data.parent) if cache else {}
    for opened in caches.values():
        opened.remove_names()
    settings = DataSection(path=str(data), global_batch_size=BATCH_SIZE, num_workers=WORKERS)
    feed = DataPipeline(str(data), manifest, settings, seed=0, rank=0, world_size=1, timeout_s=300, caches=caches)
    steps = feed.train_steps(0)
    if cache:
        while not caches["train"].is_complete():
            next(steps)
    for micro_batches in steps:
        yield micro_batches[0].values


def folder_batches(pictures: Path) -> Batches:
    """Return batches of torchvision's ImageFolder through torch's DataLoader, shuffled, epoch after epoch."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Grayscale, PILToTensor

    dataset = ImageFolder(str(pictures), Compose([Grayscale(), PILToTensor()]))
    loader = DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
    return (images for _ in itertools.count() for images, _ in loader)


def webdataset_batches(data: Path) -> Batches:
    """Yield batches of plain WebDataset over the same shards, decoded by Pillow."""
    import webdataset as wds

    shards = [str(path) for path in sorted(data.glob("train/*.tar"))]
    dataset = wds.WebDataset(shards, shardshuffle=False).decode("l8").to_tuple("png").batched(BATCH_SIZE)
    loader = wds.WebLoader(dataset, batch_size=None, num_workers=WORKERS, persistent_workers=True)
    while True:
        for (images,) in loader:
            yield torch.as_tensor(np.asarray(images))


def _read_payloads(data: Path, count: int) -> list[bytes]:
    reader = ShardReader(data, load_manifest(data), "train")
    return [reader.read(number)["png"] for number in range(count)]


def _decode_by_pillow(payload: bytes) -> object:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(payload)))


def _decode_by_us(size: int, payload: bytes) -> object:
    return decode_png(payload, image_size=(size, size), channels=1)


def decoding_rate(decode: Callable[[bytes], object], payloads: list[bytes], seconds: float) -> float:
    """Return how many PNGs a second as many processes as there are workers decode, and do nothing else."""
    context = multiprocessing.get_context()
    rates: Queue[float] = context.Queue()
    processes = [
        context.Process(target=_decode_for, args=(decode, payloads[number::WORKERS], seconds, rates))
        for number in range(WORKERS)
    ]
    for process in processes:
        process.start()
    total = sum(rates.get() for _ in processes)
    for process in processes:
        process.join()
    return total


def _decode_for(
    decode: Callable[[bytes], object], payloads: list[bytes], seconds: float, rates: "Queue[float]"
) -> None:
    torch.set_num_threads(1)
    for payload in payloads[:32]:
        decode(payload)
    start, count = time.perf_counter(), 0
    while (taken := time.perf_counter() - start) < seconds:
        for payload in payloads[:32]:
            decode(payload)
        payloads = payloads[32:] + payloads[:32]
        count += len(payloads[:32])
    rates.put(count / taken)
