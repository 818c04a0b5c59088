"""The VQ-VAE of stage 1 (van den Oord et al. 2017): images to code maps and back.

Shapes: B batch, C channels, H W image, h w latent grid, D code size.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vqdist.config.model_config import QuantizerConfig, VQVAEConfig
from vqdist.config.section import Int, Real, build_section, key, takes_keys
from vqdist.foundation.errors import UserError
from vqdist.models.argument_checks import require_images
from vqdist.models.autoencoder import Decoder, Encoder, init_weights
from vqdist.models.quantizer import VectorQuantizer
from vqdist.models.ssim_loss import dissimilarity


class VQVAEArguments(VQVAEConfig):
    """The keys of a VQ-VAE with the arguments that its dataset determines."""

    channels: Int = key(1, "channels of the images", ge=1)
    data_variance: Real = key(0.05, "variance of the pixels of the dataset, which are in [0, 1]", gt=0)


class VQVAEOutput(NamedTuple):
    """The result of a forward pass."""

    recon: Tensor  # (B, C, H, W), not clipped
    codes: Tensor  # (B, h, w) int64
    losses: dict[str, Tensor]  # name -> (B,) fp32; "loss" is the one to minimise, the others are its terms

    @property
    def loss(self) -> Tensor:
        """The mean loss of the batch, a scalar for `backward`."""
        return self.losses["loss"].mean()


@takes_keys(VQVAEArguments)
class VQVAE(nn.Module):
    """Encoder, codebook and decoder; van den Oord et al. 2017.

    The loss of a sample is mse / data_variance + codebook loss + l1_weight * l1 + ssim_weight * (1 - ssim).

    Attributes:
        config: the arguments that rebuild the model, without `deferred`.

    Args:
        channels: C of the images.
        deferred: leave first codes, EMA and restarts to the training loop; see VectorQuantizer.
    Raises:
        ConfigError: unknown keys or values out of range; all of them.
    """

    def __init__(self, channels: int = 1, *, deferred: bool = False, **keys: Any) -> None:
        super().__init__()
        config = build_section(VQVAEArguments, {"channels": channels, **keys}, "model.")
        self.config = config.model_dump()
        self.channels, self.downsample, self.num_codes = channels, config.downsample, config.num_codes
        self.l1_weight, self.ssim_weight = config.l1_weight, config.ssim_weight
        self.data_variance = config.data_variance
        self.encoder = Encoder(channels, config)
        quantizer_keys = config.model_dump(include=set(QuantizerConfig.model_fields))
        self.quantizer = VectorQuantizer(**quantizer_keys, deferred=deferred)
        self.decoder = Decoder(channels, config)
        init_weights(self)

    def forward(self, images: Tensor, positions: Tensor | None = None, weights: Tensor | None = None) -> VQVAEOutput:
        """Reconstruct images and compute the losses of each sample.

        Args:
            images: (B, C, H, W) float in [0, 1].
            positions, weights: of the samples, for the codebook; see VectorQuantizer.forward. Losses are not weighted.
        Raises:
            UserError: another shape or dtype, or a size that is not a multiple of downsample.
        """
        self._require_images(images)
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
        """Return the kernels between the first and the last layer."""
        next_to_image = {id(self.encoder.down[0].weight), id(self.decoder.up[-1].weight)}
        parts = [*self.encoder.parameters(), *self.decoder.parameters()]
        return [weight for weight in parts if weight.ndim > 1 and id(weight) not in next_to_image]

    def latents(self, images: Tensor) -> Tensor:
        """Return the latents (B, D, h, w) of images (B, C, H, W), before quantization."""
        self._require_images(images)
        return self.encoder(images)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (B, C, H, W) in [0, 1] to code maps (B, h, w) int64.

        Raises:
            UserError: another shape or dtype, or a size that is not a multiple of downsample.
        """
        self._require_images(images)
        return self.quantizer.encode(self.encoder(images))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode code maps (B, h, w) int64 to images (B, C, H, W) in [0, 1].

        Raises:
            UserError: another shape or dtype, or codes outside [0, K).
        """
        return self.decoder(self.quantizer.embed(codes)).float().clamp(0, 1)

    def reconstruct(self, images: Tensor) -> Tensor:
        """Encode and decode images; returns (B, C, H, W) in [0, 1].

        Raises:
            UserError: as in `encode`, or values far outside [0, 1].
        """
        self._require_images(images)
        # The overshoot of an interpolation filter is tolerated.
        if images.numel() and not (images.min() >= -0.5 and images.max() <= 1.5):
            found = f"values from {images.min().item():g} to {images.max().item():g}"
            raise UserError.of("images", found, "values in [0, 1]: bytes divided by 255")
        return self.decode(self.encode(images))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the size (h, w) of the code map of an H x W image.

        Raises:
            UserError: a size that is not a multiple of downsample.
        """
        if height % self.downsample or width % self.downsample or min(height, width) < 1:
            raise UserError.of("image size", f"{height} x {width}", f"multiples of the downsampling {self.downsample}")
        return height // self.downsample, width // self.downsample

    def _require_images(self, images: Tensor) -> None:
        require_images(images, channels=self.channels, weight=self.quantizer.codebook)
        self.grid(*images.shape[-2:])
