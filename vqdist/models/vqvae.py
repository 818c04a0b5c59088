"""The VQ-VAE of stage 1: images to a map of codes and back, with the layers of van den Oord et al. 2017.

Shapes: B batch, C channels, H W image, h w latent grid, D code size, K codes.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vqdist.foundation.errors import ConfigError, Problem, UserError
from vqdist.models.autoencoder import Decoder, Encoder, Sizes, init_weights
from vqdist.models.dissimilarity import dissimilarity
from vqdist.models.quantizer import VectorQuantizer, codebook_problems

DOWNSAMPLES = (4, 8, 16)
PATCHES = (1, 2, 4)
MOST_LAYERS = 1000


class VQVAEOutput(NamedTuple):
    """A training forward: the reconstruction, its codes and each sample's losses."""

    recon: Tensor  # (B, C, H, W), not clipped
    codes: Tensor  # (B, h, w) int64
    losses: dict[str, Tensor]  # name -> (B,) fp32; "loss" is the one to minimise, the others its parts


class VQVAE(nn.Module):
    """Encoder, codebook and decoder; van den Oord et al. 2017.

    The loss of a sample: mse / data_variance + codebook loss + l1_weight * l1 + ssim_weight * (1 - ssim).

    Args:
        channels: C of the images.
        hidden: features of the latent grid.
        residual_hidden: features inside a residual layer.
        residual_layers: their number, in the encoder and in the decoder.
        fine_layers: residual layers at each resolution that is finer than the grid; 2017 has none.
        downsample: pixels per latent, a side: 4, 8 or 16.
        patch: 1: strided convolutions begin at the pixels, with hidden / 2 channels and then hidden, as in 2017.
            2 or 4: squares of so many pixels a side are folded into channels, and the widths halve with each
            resolution above the grid: most of the work is then done where the features are small.
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
        fine_layers: int = 0,
        downsample: int = 8,
        patch: int = 1,
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
            "fine_layers": fine_layers,
            "downsample": downsample,
            "patch": patch,
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
        sizes = Sizes(channels, hidden, residual_hidden, residual_layers, fine_layers, downsample, patch, code_dim)
        self.encoder = Encoder(sizes)
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
        self.decoder = Decoder(sizes)
        init_weights(self)

    def forward(self, images: Tensor, positions: Tensor | None = None, weights: Tensor | None = None) -> VQVAEOutput:
        """Reconstruct images and compute the losses of each sample.

        Args:
            images: (B, C, H, W) float in [0, 1].
            positions, weights: of the samples, for the codebook; see VectorQuantizer.forward. Losses are not weighted.
        """
        latents = self.encoder(images)
        quantized, codes, codebook_loss = self.quantizer(latents, positions, weights=weights, per_sample=True)
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
            losses["dissimilarity"] = dissimilarity(images, recon)
            loss = loss + self.ssim_weight * losses["dissimilarity"]
        return {"loss": loss, **losses}

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the kernels between what goes in and what comes out: all but those next to the image."""
        next_to_image = {id(self.encoder.down[0].weight), id(self.decoder.up[-1].weight)}
        parts = [*self.encoder.parameters(), *self.decoder.parameters()]
        return [weight for weight in parts if weight.ndim > 1 and id(weight) not in next_to_image]

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
    not_negative = ("residual_layers", "fine_layers", "l1_weight", "ssim_weight")
    problems += [Problem(f"model.{key}", str(config[key]), "0 or above") for key in not_negative if config[key] < 0]
    if config["hidden"] < 2:
        problems.append(Problem("model.hidden", str(config["hidden"]), "at least 2"))
    for key in ("residual_layers", "fine_layers"):
        if config[key] > MOST_LAYERS:
            problems.append(Problem(f"model.{key}", str(config[key]), f"at most {MOST_LAYERS}"))
    if config["downsample"] not in DOWNSAMPLES:
        problems.append(Problem("model.downsample", str(config["downsample"]), "4, 8 or 16"))
    if config["patch"] not in PATCHES:
        problems.append(Problem("model.patch", str(config["patch"]), "1, 2 or 4"))
    elif config["fine_layers"] > 0 and config["patch"] == config["downsample"]:
        found = f"{config['fine_layers']}, with patches of {config['patch']} pixels, as coarse as the code map"
        problems.append(Problem("model.fine_layers", found, "0, or a smaller model.patch"))
    if problems:
        raise ConfigError(problems)
