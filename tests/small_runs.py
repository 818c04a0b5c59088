"""Small data sets and models for tests of the commands: made-up slices and untrained weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from vqdist.config.command_options import EncodeOptions
from vqdist.data.shards.codecs import encode_png
from vqdist.data.shards.writer import ShardSetWriter, load_manifest
from vqdist.data.sources.phantom import phantom_slice
from vqdist.distributed.process_group import Ranks
from vqdist.inference.encoding import encode
from vqdist.models.io import save_model
from vqdist.models.model_card import DataDescription
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

ALONE = Ranks(0, 1, 0, torch.device("cpu"))
SIZE = 32
SUBJECTS = {"train": (0, 1, 2, 3), "validate": (4,), "test": (5, 6, 7)}
SLICES = (0, 10, 20)


def write_images(out: Path, *, channels: int = 1, size: int = SIZE) -> Path:
    """Write a data set of made-up slices: 12 in train, 3 in validate, 9 in test, 5 to a shard."""
    kind = {"kind": "images", "image_size": (size, size), "channels": channels, "samples_per_shard": 5}
    with ShardSetWriter(out, **kind) as writer:
        for split, subjects in SUBJECTS.items():
            for subject in subjects:
                for number in SLICES:
                    pixels = phantom_slice(subject, number, image_size=size)
                    info = {"subject": f"s{subject}", "slice": number, "label": subject % 2, "source": "phantom"}
                    image = np.repeat(pixels[None], channels, axis=0)
                    writer.write(split, f"s{subject}_{number}", encode_png(image), "png", info)
    return out


def save_vqvae(run: Path, *, channels: int = 1, num_codes: int = 16, seed: int = 0) -> Path:
    """Save an untrained VQ-VAE as a run would; its codebook is spread like its latents."""
    torch.manual_seed(seed)
    sizes = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "downsample": 4, "code_dim": 4}
    model = VQVAE(channels, **sizes, num_codes=num_codes)
    latents = model.latents(torch.rand(4, channels, SIZE, SIZE))
    model.quantizer.initialize(latents.detach().permute(0, 2, 3, 1).reshape(-1, 4), seed)
    save_model(model.eval(), run / "model", step=0, data=DataDescription(image_size=(SIZE, SIZE)))
    return run


def write_codes(out: Path, run: Path, images: Path) -> Path:
    """Encode a dataset of images."""
    encode(EncodeOptions(run=run, data=images, out=out), ALONE)
    return out


def save_prior(run: Path, codes: Path, *, condition: str = "none", seed: int = 0) -> Path:
    """Save an untrained PixelCNN for a set of codes as a run would."""
    torch.manual_seed(seed)
    manifest = load_manifest(codes)
    assert manifest.num_codes is not None
    numbers = {"num_labels": manifest.num_labels, "num_slices": manifest.num_slices}
    model = PixelCNN(manifest.num_codes, hidden=8, layers=2, condition=condition, **numbers)
    torch.nn.init.normal_(model.head[-1].weight)
    data = DataDescription(grid=manifest.grid, conditions=manifest.conditions)
    save_model(model.eval(), run / "model", step=0, data=data, vqvae_dir=codes)
    return run


def launch(module: str, *arguments: object, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command in processes of its own: one without a launcher, or several ranks on the CPU."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(ranks)]
    port = ["--main_process_port", "0"] if ranks > 1 else []
    command = [sys.executable, *(launcher + port if ranks > 1 else []), "-m", module, *map(str, arguments)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
