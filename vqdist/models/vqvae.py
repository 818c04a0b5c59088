"""The VQ-VAE of stage 1: images to a map of codes and back, with the layers of van den Oord et al. 2017.

Shapes: B batch, C channels, H W image, h w latent grid, D code size, K codes.
"""

import math
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.errors import ConfigError, Problem, UserError
from vqdist.metrics import ssim_map
from vqdist.models.quantizer import VectorQuantizer, codebook_problems
from vqdist.models.upsample import Upsample

DOWNSAMPLES = (4, 8, 16)
MOST_LAYERS = 1000


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 1x1, added to the input; 2017, section 4.1."""

    def __init__(self, hidden: int, residual_hidden: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(hidden, residual_hidden, 3, padding=1)
        self.gather = nn.Conv2d(residual_hidden, hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, hidden, h, w) to the same shape."""
        return features + self.gather(F.relu_(self.spread(F.relu(features))))


class Encoder(nn.Module):
    """Images (B, C, H, W) to latents (B, D, h, w): a stride-2 4x4 convolution per halving, 3x3, residuals, 1x1."""

    def __init__(
        self, channels: int, *, hidden: int, residual_hidden: int, residual_layers: int, halvings: int, code_dim: int
    ) -> None:
        super().__init__()
        widths = [channels, hidden // 2, *[hidden] * (halvings - 1)]
        self.down = nn.ModuleList(nn.Conv2d(inner, outer, 4, stride=2, padding=1) for inner, outer in pairwise(widths))
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.residuals = nn.ModuleList(Residual(hidden, residual_hidden) for _ in range(residual_layers))
        self.to_code = nn.Conv2d(hidden, code_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the latents, before quantization."""
        features = images
        for layer in self.down:
            features = F.relu_(layer(features))
        features = self.mix(features)
        for residual in self.residuals:
            features = residual(features)
        return self.to_code(F.relu_(features))


class Decoder(nn.Module):
    """Quantized latents (B, D, h, w) to images (B, C, H, W): the encoder's mirror, 4x4 transposed convolutions."""

    def __init__(
        self, channels: int, *, hidden: int, residual_hidden: int, residual_layers: int, halvings: int, code_dim: int
    ) -> None:
        super().__init__()
        widths = [*[hidden] * (halvings - 1), hidden // 2, channels]
        self.mix = nn.Conv2d(code_dim, hidden, 3, padding=1)
        self.residuals = nn.ModuleList(Residual(hidden, residual_hidden) for _ in range(residual_layers))
        self.up = nn.ModuleList(Upsample(wide, narrow) for wide, narrow in pairwise(widths))

    def forward(self, quantized: Tensor) -> Tensor:
        """Return the images, not clipped."""
        features = self.mix(quantized)
        for residual in self.residuals:
            features = residual(features)
        for layer in self.up:
            features = layer(F.relu_(features))
        return features


def _init_weights(model: nn.Module) -> None:
    """Scale the weights so that the latents start near unit scale and each residual near the identity.

    He et al. 2015 for layers behind a ReLU. PyTorch's default loses a factor of 2.4 a layer: the first latents of
    a slice differ by some thousandths, and the first steps go into blowing them up.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size) / math.prod(layer.stride if layer.transposed else (1,))
            gain = {"to_code": 1.0, "gather": 0.1}.get(name.rpartition(".")[2], math.sqrt(2))
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_channels * taps))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class VQVAEOutput(NamedTuple):
    """A training forward: the reconstruction, its codes and each sample's losses."""

    recon: Tensor  # (B, C, H, W), not clipped
    codes: Tensor  # (B, h, w) int64
    losses: dict[str, Tensor]  # name -> (B,) fp32; "loss" is the one to minimise, the others its parts, unweighted


class VQVAE(nn.Module):
    """Encoder, codebook and decoder; van den Oord et al. 2017.

    The loss of a sample: mse / data_variance + codebook loss + l1_weight * l1 + ssim_weight * (1 - ssim).

    Args:
        channels: C of the images.
        hidden: features of the latent grid.
        residual_hidden: features inside a residual layer.
        residual_layers: their number, in the encoder and in the decoder.
        downsample: pixels per latent, a side: 4, 8 or 16.
        code_dim: D.
        num_codes: K.
        commitment_weight: beta of eq. 3.
        codebook: learned by "ema" (appendix A.1) or "grad" (eq. 3).
        ema_decay: gamma of appendix A.1.
        restart: replace codes that are hardly used: every `restart_every` steps those that were used less than
            `restart_threshold` of the mean since the last time.
        l1_weight: weight of the mean absolute error, 0 for none.
        ssim_weight: weight of the structural dissimilarity, 0 for none.
        data_variance: variance of a pixel of the data, in [0, 1] units.
        deferred: leave first codes, EMA and restarts to the training loop, see VectorQuantizer; not part of `config`.

    Raises:
        ConfigError: arguments out of range, all of them together.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        hidden: int = 128,
        residual_hidden: int = 32,
        residual_layers: int = 2,
        downsample: int = 8,
        code_dim: int = 64,
        num_codes: int = 512,
        commitment_weight: float = 0.25,
        codebook: Literal["ema", "grad"] = "ema",
        ema_decay: float = 0.99,
        restart: bool = True,
        restart_every: int = 20,
        restart_threshold: float = 0.02,
        l1_weight: float = 0.0,
        ssim_weight: float = 0.0,
        data_variance: float = 0.05,
        deferred: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "channels": channels,
            "hidden": hidden,
            "residual_hidden": residual_hidden,
            "residual_layers": residual_layers,
            "downsample": downsample,
            "code_dim": code_dim,
            "num_codes": num_codes,
            "commitment_weight": commitment_weight,
            "codebook": codebook,
            "ema_decay": ema_decay,
            "restart": restart,
            "restart_every": restart_every,
            "restart_threshold": restart_threshold,
            "l1_weight": l1_weight,
            "ssim_weight": ssim_weight,
            "data_variance": data_variance,
        }
        _require_valid(self.config)
        self.channels, self.downsample, self.num_codes = channels, downsample, num_codes
        self.l1_weight, self.ssim_weight, self.data_variance = l1_weight, ssim_weight, data_variance
        sizes = {
            "hidden": hidden,
            "residual_hidden": residual_hidden,
            "residual_layers": residual_layers,
            "halvings": int(math.log2(downsample)),
            "code_dim": code_dim,
        }
        self.encoder = Encoder(channels, **sizes)
        self.quantizer = VectorQuantizer(
            num_codes,
            code_dim,
            codebook=codebook,
            commitment_weight=commitment_weight,
            ema_decay=ema_decay,
            restart=restart,
            restart_every=restart_every,
            restart_threshold=restart_threshold,
            deferred=deferred,
        )
        self.decoder = Decoder(channels, **sizes)
        _init_weights(self)

    def forward(self, images: Tensor, positions: Tensor | None = None) -> VQVAEOutput:
        """Reconstruct a batch and return what training needs.

        Args:
            images: (B, C, H, W) float in [0, 1].
            positions: (B,) int64 position of each sample in the global batch; None: 0 ... B - 1.
        """
        quantized, codes, codebook_loss = self.quantizer(self.encoder(images), positions, per_sample=True)
        recon = self.decoder(quantized)
        return VQVAEOutput(recon, codes, self._compute_losses(images, recon, codebook_loss))

    def _compute_losses(self, images: Tensor, recon: Tensor, codebook_loss: Tensor) -> dict[str, Tensor]:
        recon = recon.float()
        difference = recon - images
        losses = {
            "recon_loss": difference.square().mean((1, 2, 3)) / self.data_variance,
            "codebook_loss": codebook_loss.float(),
        }
        loss = losses["recon_loss"] + losses["codebook_loss"]
        if self.l1_weight:
            losses["l1"] = difference.abs().mean((1, 2, 3))
            loss = loss + self.l1_weight * losses["l1"]
        if self.ssim_weight:
            losses["dissimilarity"] = 1 - ssim_map(images, recon).mean((1, 2, 3))
            loss = loss + self.ssim_weight * losses["dissimilarity"]
        return {"loss": loss, **losses}

    def latents(self, images: Tensor) -> Tensor:
        """Return the latents before quantization: (B, C, H, W) -> (B, D, h, w)."""
        return self.encoder(images)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the code map of images (B, C, H, W) in [0, 1]: (B, h, w) int64.

        Raises:
            UserError: other numbers or channels, or a size that the downsampling does not divide.
        """
        self._require_images(images)
        self.grid(*images.shape[-2:])
        return self.quantizer.encode(self.encoder(images))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the images of code maps (B, h, w) int64: (B, C, H, W) in [0, 1]."""
        return self.decoder(self.quantizer.embed(codes)).float().clamp(0, 1)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images after encoding and decoding: (B, C, H, W) in [0, 1].

        Raises:
            UserError: as of `encode`, or values that are far outside [0, 1].
        """
        if images.numel() and not (images.min() >= -0.5 and images.max() <= 1.5):  # a filter's overshoot is none
            found = f"values from {images.min().item():g} to {images.max().item():g}"
            raise UserError.of("images", found, "values in [0, 1]: bytes divided by 255")
        return self.decode(self.encode(images))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (h, w) of the code map of an H x W image.

        Raises:
            UserError: a size that the downsampling does not divide.
        """
        if height % self.downsample or width % self.downsample or min(height, width) < 1:
            raise UserError.of("image size", f"{height} x {width}", f"multiples of the downsampling {self.downsample}")
        return height // self.downsample, width // self.downsample

    def _require_images(self, images: Tensor) -> None:
        if not images.is_floating_point():
            raise UserError.of("images", str(images.dtype), "float values in [0, 1]: bytes divided by 255")
        if images.ndim != 4 or images.shape[1] != self.channels:
            expected = f"(B, {self.channels}, H, W): the model has {self.channels} channel(s)"
            raise UserError.of("images", f"shape {tuple(images.shape)}", expected)


def _require_valid(config: dict[str, Any]) -> None:
    problems = codebook_problems(config, "model.")
    positive = ("channels", "residual_hidden", "data_variance")
    problems += [Problem(f"model.{key}", str(config[key]), "above 0") for key in positive if not config[key] > 0]
    not_negative = ("residual_layers", "l1_weight", "ssim_weight")
    problems += [Problem(f"model.{key}", str(config[key]), "0 or above") for key in not_negative if config[key] < 0]
    if config["hidden"] < 2:
        problems.append(Problem("model.hidden", str(config["hidden"]), "at least 2"))
    if config["residual_layers"] > MOST_LAYERS:
        problems.append(Problem("model.residual_layers", str(config["residual_layers"]), f"at most {MOST_LAYERS}"))
    if config["downsample"] not in DOWNSAMPLES:
        problems.append(Problem("model.downsample", str(config["downsample"]), "4, 8 or 16"))
    if problems:
        raise ConfigError(problems)
