"""Save a model of each kind and its results, as this version of the package writes them.

    python tests/models/kept/keep.py tests/models/kept/VERSION

To be run once per release. Files in this folder must stay readable and are never written again.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from vqdist import VQVAE, PixelCNN
from vqdist.models.io import save_model
from vqdist.models.model_card import DataDescription

GRID = (4, 6)


def build_vqvae(codebook: str) -> VQVAE:
    """Build a VQ-VAE of a few kB whose codebook is taken from its latents."""
    sizes = {"hidden": 4, "residual_hidden": 2, "residual_layers": 1, "downsample": 4, "code_dim": 3, "num_codes": 8}
    model = VQVAE(3, **sizes, codebook=codebook).eval()
    latents = model.latents(torch.rand(4, 3, 16, 24)).detach()
    model.quantizer.initialize(latents.permute(0, 2, 3, 1).reshape(-1, 3), 0)
    return model


def keep(folder: Path) -> None:
    """Save the models, their inputs and their outputs."""
    torch.manual_seed(0)
    images, codes = torch.rand(2, 3, 16, 24), torch.randint(8, (2, *GRID))
    label, slices = torch.tensor([0, 1]), torch.tensor([2, 0])
    tensors = {"images": images, "prior_codes": codes, "label": label, "slice": slices}
    for codebook in ("ema", "grad"):
        vqvae = build_vqvae(codebook)
        data = DataDescription(image_size=(16, 24))
        save_model(vqvae, folder / f"vqvae-{codebook}", step=5, metrics={"loss": 0.5}, data=data)
        found = vqvae.encode(images)
        tensors |= {f"{codebook}_codes": found, f"{codebook}_recon": vqvae.decode(found)}
    prior = PixelCNN(8, hidden=4, layers=2, kernel=3, condition="label+slice", num_labels=2, num_slices=3).eval()
    torch.nn.init.normal_(prior.head[-1].weight)
    data = DataDescription(grid=GRID, conditions=((0, 2, 1), (1, 0, 1)))
    save_model(prior, folder / "pixelcnn", step=7, data=data, vqvae_dir=folder / "vqvae-ema")
    tensors["logits"] = prior(codes, label=label, slice=slices).detach()
    tensors["greedy"] = prior.sample(2, GRID, temperature=0, label=label, slice=slices)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
