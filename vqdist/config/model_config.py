"""Configuration classes of the VQ-VAE and the PixelCNN: the only definition of their keys, ranges and defaults.

Configuration files, flags, `--help`, the key table, the constructors of the models and the saved config.json use these
classes.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from vqdist.config.augmentation import SymmetryKey
from vqdist.config.condition_key import NUMBERS, ConditionKey, list_names
from vqdist.config.section import Bool, Int, IntChoice, Real, Section, key
from vqdist.foundation.errors import Problem

if TYPE_CHECKING:
    from vqdist.config.schema import RunConfig


Downsample = Literal[4, 8, 16]


class ModelConfig(Section):
    """The keys of a model; the `model` section of a run.

    Attributes:
        data_kind: what the model is trained on.
    """

    data_kind: ClassVar[Literal["images", "codes"]]

    @property
    def reads_previous(self) -> bool:
        """Whether samples are loaded together with the previous slice of the subject."""
        return False

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """The attributes of subjects, such as age, that the model is conditioned on."""
        return ()

    def find_run_conflicts(self, run: "RunConfig") -> list[Problem]:
        """Return the problems between keys of the model and of other sections of the run."""
        return []


class QuantizerConfig(Section):
    """The vector quantizer (van den Oord et al. 2017, section 3 and appendix A.1)."""

    code_dim: Int = key(64, "size of a codebook vector", ge=1)
    num_codes: Int = key(512, "number of codebook vectors", ge=2)
    commitment_weight: Real = key(0.25, "weight of the commitment loss", ge=0)
    codebook: Literal["ema", "grad"] = key("ema", "how the codebook is learned: by moving averages or by gradient")
    ema_decay: Real = key(0.99, "decay of the codebook's moving averages", ge=0, lt=1)
    restart: Bool = key(True, "replace rarely used codes by latents of the batch")
    restart_every: Int = key(20, "steps between two checks for rarely used codes", unit="steps", ge=1)
    restart_threshold: Real = key(0.02, "a code restarts if it is used less than this share of the mean use", ge=0)


class VQVAEConfig(ModelConfig, QuantizerConfig):
    """The VQ-VAE (van den Oord et al. 2017)."""

    data_kind = "images"

    hidden: Int = key(128, "channels of the latent grid in encoder and decoder", ge=2)
    residual_hidden: Int = key(32, "channels inside a residual block", ge=1)
    residual_layers: Int = key(2, "residual blocks in the encoder and in the decoder", ge=0, le=1000)
    fine_layers: Int = key(0, "residual blocks at each resolution finer than the code map", ge=0, le=1000)
    downsample: Annotated[Downsample, IntChoice] = key(8, "image side divided by the side of the code map")
    patch: Annotated[Literal[1, 2, 4], IntChoice] = key(
        1, "side of the pixel squares folded into channels first; above 1, widths halve per finer resolution", unit="px"
    )
    activation: Literal["relu", "leaky_relu"] = key(
        "relu", "nonlinearity; leaky_relu has slope 0.1 below 0, so that no unit stops learning"
    )
    l1_weight: Real = key(0.0, "weight of the mean absolute error in the loss", ge=0)
    ssim_weight: Real = key(0.0, "weight of 1 - SSIM in the loss", ge=0)

    def find_conflicts(self) -> list[Problem]:
        if self.fine_layers > 0 and self.patch == self.downsample:
            found = f"{self.fine_layers}, with patches of {self.patch} pixels, as coarse as the code map"
            return [Problem("model.fine_layers", found, "0, or a smaller model.patch")]
        return []

    def advise_size(self, image_size: tuple[int, ...]) -> str:
        """Return what fits images whose sides are no multiples of downsample; empty if they are multiples."""
        if not any(side % self.downsample for side in image_size):
            return ""
        expected = f"a divisor of both sides: shard again with --image-size {self.nearest_size(max(image_size))}"
        other = self.advise_downsample(image_size)
        return f"{expected}, or pass {other}" if other else expected

    def advise_downsample(self, image_size: tuple[int, ...]) -> str:
        """Return the flags of a smaller downsample that divides both sides; empty if there is none."""
        finer = [value for value in get_args(Downsample) if value < self.downsample]
        fitting = max((value for value in finer if not any(side % value for side in image_size)), default=None)
        if fitting is None:
            return ""
        patch = f" --model.patch {fitting // 2}" if self.fine_layers and self.patch >= fitting else ""
        return f"--model.downsample {fitting}{patch}"

    def nearest_size(self, side: int) -> int:
        """Return the multiple of downsample that is nearest to a side."""
        return max(round(side / self.downsample), 1) * self.downsample

    def list_fitting_sizes(self, side: int, *, smallest: int) -> list[int]:
        """Return the multiples of downsample next to a side, below and above, that are at least `smallest`."""
        below = side // self.downsample * self.downsample
        first = -(-smallest // self.downsample) * self.downsample
        return sorted({max(size, first) for size in (below, below + self.downsample * (side != below))})

    def find_run_conflicts(self, run: "RunConfig") -> list[Problem]:
        crop = run.data.crop
        if isinstance(crop, int) and crop % self.downsample:
            return [Problem("data.crop", str(crop), f"a multiple of model.downsample, {self.downsample}")]
        return []


class PixelCNNConfig(ModelConfig):
    """The gated PixelCNN (van den Oord et al. 2016) over the codes of a VQ-VAE."""

    data_kind = "codes"

    hidden: Int = key(64, "channels of both stacks", ge=1)
    layers: Int = key(15, "masked gated layers", ge=1)
    kernel: Int = key(5, "kernel width; odd", ge=3)
    dropout: Real = key(0.0, "share of activations dropped in training", ge=0, lt=1)
    condition: ConditionKey = key(
        "none", "what the prior is conditioned on: a list of names, such as [slice, age, sex], label+slice, or none"
    )
    condition_dropout: Real = key(
        0.0, "share of samples whose conditions are hidden in training, each alone and all together", ge=0, le=0.5
    )
    symmetry: SymmetryKey = key(
        "none",
        "up-down: also condition the lower half of a map on the mirrored upper half; "
        "auto: up-down for brain slices, none for other pictures",
    )
    context: Literal["none", "previous"] = key(
        "none", "previous: also condition a map on that of the previous slice of the subject, for whole volumes"
    )
    context_dropout: Real = key(
        0.1, "with context previous: share of the maps that are trained without the previous one", ge=0, le=1
    )
    context_noise: Real = key(
        0.2,
        "with context previous: largest share of the codes of a previous map that similar codes replace in training",
        ge=0,
        le=1,
    )

    @property
    def reads_previous(self) -> bool:
        return self.context == "previous"

    @property
    def attribute_names(self) -> tuple[str, ...]:
        return tuple(name for name in list_names(self.condition) if name not in NUMBERS)

    def find_conflicts(self) -> list[Problem]:
        return [] if self.kernel % 2 else [Problem("model.kernel", str(self.kernel), "an odd number")]


MODEL_CONFIGS: dict[str, type[ModelConfig]] = {"vqvae": VQVAEConfig, "pixelcnn": PixelCNNConfig}
