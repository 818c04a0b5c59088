"""The prior over code maps: a gated PixelCNN with two stacks (van den Oord et al. 2016).

Shapes: B maps, h w grid, C channels of both stacks, K codes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.config.section import build_section, takes_keys
from vqdist.foundation.errors import UserError
from vqdist.models.argument_checks import require_codes, require_grid, require_particles
from vqdist.models.codebook_projection import project_codebook
from vqdist.models.condition_spec import Conditions
from vqdist.models.gated_layers import Context, GatedLayer, MirroredRows
from vqdist.models.given_codes import GivenCodes
from vqdist.models.map_conditions import ConditionValue, MapConditions
from vqdist.models.particles import Particles
from vqdist.models.pixelcnn_arguments import PixelCNNArguments
from vqdist.models.previous_map import PreviousMap
from vqdist.models.sampler import sample_codes
from vqdist.models.sampling_options import SamplingOptions

FIRST_LOGIT_STD = 0.01  # the first prediction is almost uniform: the loss starts at log K


@takes_keys(PixelCNNArguments)
class PixelCNN(nn.Module):
    """Model the distribution of code maps, each code given all codes before it in raster order.

    Two stacks avoid a blind spot: the vertical stack sees the rows above; the horizontal stack sees the codes to the
    left and, through the vertical stack, the rows above. A layer sees kernel // 2 codes further up, left and right.
    The context (position, conditions, previous map) enters both stacks after the first layer, and the residual
    connections carry it to every gate. 2016, section 2.

    With symmetry "up-down", the rows below the middle also see the rows above the middle, mirrored. This suits maps
    whose lower half resembles the mirrored upper half, such as the two sides of a brain.

    Args:
        num_codes: K.
    Raises:
        ConfigError: unknown keys or values out of range; all of them.
    """

    def __init__(self, num_codes: int, **keys: Any) -> None:
        super().__init__()
        config = build_section(PixelCNNArguments, {"num_codes": num_codes, **keys}, "model.")
        self.config, self.spec = config.to_json(), config.spec
        self.num_codes, self.condition = num_codes, self.spec.names
        self.num_labels, self.num_slices = config.num_labels, config.num_slices
        hidden, kernel, dropout = config.hidden, config.kernel, config.dropout
        self.embedding = nn.Embedding(num_codes, hidden)
        counts = {"num_labels": config.num_labels, "num_slices": config.num_slices}
        self.context = Context(hidden, condition=self.condition, attributes=config.attributes, **counts)
        self.opposite = MirroredRows(hidden, kernel, dropout=dropout) if config.symmetry == "up-down" else None
        self.previous = PreviousMap(hidden, kernel, dropout=dropout) if config.reads_previous else None
        self.layers = nn.ModuleList(
            GatedLayer(hidden, kernel, first=index == 0, dropout=dropout) for index in range(config.layers)
        )
        last = nn.Linear(2 * hidden, num_codes)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden), nn.SiLU(), last)
        nn.init.normal_(last.weight, std=FIRST_LOGIT_STD)
        nn.init.zeros_(last.bias)

    def forward(
        self,
        codes: Tensor,
        label: Tensor | None = None,
        slice: Tensor | None = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of every code given those before it.

        Args:
            codes: (B, h, w) int64 in [0, K).
            label: (B,) int64 in [0, num_labels), if the model is conditioned on it.
            slice: (B,) int64 in [0, num_slices), if the model is conditioned on it.
            conditions: as in `sample`; all in one object on the device of the model, or values by name.
            previous: (B, h, w) int64 codes of the previous slice of each map, -1 in all places for a map without one;
                for a model with context "previous". None: no map has one.
        Returns:
            (B, K, h, w) logits.
        Raises:
            UserError: codes or a condition of the wrong shape or dtype or out of range, or a condition that is missing
                or unexpected.
        """
        require_codes(codes, num_codes=self.num_codes)
        B, h, w = codes.shape
        given = MapConditions(label, slice, previous=previous)
        known = self.spec.read(B, given, conditions, grid=(h, w)).to(codes.device)
        above = left = self.embedding(codes)  # (B, h, w, C)
        context = self.context.rows(h, w, known)
        if self.previous is not None:
            context = context + self.previous.read(known.previous, self.embedding)
        if self.opposite is not None and h > 1:
            context = context + F.pad(self.opposite(above[:, : h // 2]), (0, 0, 0, 0, h - h // 2, 0))
        for layer in self.layers:
            above, left = layer(above, left, context)
        return self.head(left).permute(0, 3, 1, 2)

    def loss(
        self,
        codes: Tensor,
        label: Tensor | None = None,
        slice: Tensor | None = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Return the loss to minimise, a scalar: the mean negative log-likelihood of a code in nats.

        Divided by log 2 it is the mean of bits per code. Arguments and errors as in `forward`.
        """
        return F.cross_entropy(self(codes, label, slice, conditions, previous).float(), codes.long())

    @property
    def reads_previous(self) -> bool:
        """Whether the model reads the map of the previous slice."""
        return self.previous is not None

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices and kernels between the first and the last layer."""
        parts = [part for part in (self.opposite, self.previous, self.layers) if part is not None]
        return [weight for part in parts for weight in part.parameters() if weight.ndim > 1]

    @torch.no_grad()
    def start_from_codebook(self, codebook: Tensor) -> None:
        """Initialise embedding and output weights from a codebook, so that similar codes have similar weights.

        What is learned about a code then applies to its neighbours in the codebook from the first step.

        Args:
            codebook: (K, D) float, of the VQ-VAE that made the codes.
        Raises:
            UserError: a codebook with another number of codes.
        """
        if codebook.ndim != 2 or len(codebook) != self.num_codes:
            raise UserError.of("codebook", f"shape {tuple(codebook.shape)}", f"({self.num_codes}, D)")
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        for weight, std in ((self.embedding.weight, 1.0), (last.weight, FIRST_LOGIT_STD)):
            weight.copy_(std * project_codebook(codebook.float(), weight.shape[1]))

    def sample(
        self,
        num: int,
        grid: tuple[int, int],
        noise: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        guidance: float = 0.0,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Sample code maps, one code at a time in raster order, without dropout.

        A code is the argmax of logits / temperature + noise among the top_k; with Gumbel noise that is a sample from
        the softmax.

        Args:
            num: number of maps, B.
            grid: (h, w) of a map; any size.
            noise: (num, h * w, K) Gumbel noise; None: drawn from torch's global generator.
            temperature: 0 takes the most likely code, without noise.
            top_k: sample among the most likely codes only; 0: among all.
            label: one label for all maps, or (num,) labels.
            slice: one slice number for all maps, or (num,) slice numbers.
            conditions: value of each attribute, such as {"age": 75.0, "sex": "F"}, or a list with one for each map;
                attributes not given are unknown. Or all conditions in one object, in place of label and slice.
            guidance: w; the logits are (1 + w) times those with the conditions minus w times those without, which
                strengthens the conditions. The model must be trained with condition_dropout.
            previous: (num, h, w), as in `forward`.
        Returns:
            (num, h, w) int64 codes.
        Raises:
            UserError: arguments out of range or conditions that do not fit the model; all of them.
        """
        options = SamplingOptions(noise=noise, temperature=temperature, top_k=top_k, guidance=guidance)
        grid = require_grid(grid)
        options.check(num, grid, self.num_codes)
        self.spec.check_guidance(guidance)
        known = self.spec.expand(num, label, slice, conditions, previous, grid=grid)
        return sample_codes(self, num, grid, options, known)

    def complete(
        self,
        codes: Tensor,
        keep: Tensor,
        noise: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
        particles: int = 1,
    ) -> Tensor:
        """Sample the codes of some places of code maps and keep the others.

        A code is sampled given the codes before it in raster order, kept or sampled. Codes after it influence it only
        with several particles, of which those survive that make the kept codes behind them likely (see
        models/particles.py): with many, a completion is a sample given all kept codes.

        Args:
            codes: (B, h, w) int64 in [0, K).
            keep: (B, h, w) bool; False where a code is to be sampled.
            noise: as in `sample`, but (B * particles, h * w, K), those of the particles of a map beside each other.
            temperature, top_k, label, slice, conditions, previous: as in `sample`.
            particles: drawn together for each map; one of them is returned. The time grows in proportion.
        Returns:
            (B, h, w) int64 codes, equal to the input where `keep` is True.
        Raises:
            UserError: arguments out of range, of the wrong shape, or that do not fit the model; all of them.
        """
        given = GivenCodes.from_mask(codes, keep, num_codes=self.num_codes)
        options = SamplingOptions(noise=noise, temperature=temperature, top_k=top_k)
        return self._redraw(given, options, label, slice, conditions, previous, particles=particles)

    def restore(
        self,
        codes: Tensor,
        max_bits: float | Tensor,
        noise: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Sample the codes that are unlikely given the codes before them, and keep the others.

        The pass decides on a code when it reaches it, given the codes that it has kept or sampled before. A lesion
        whose first codes have been replaced by likely ones does not make its other codes look likely.

        Args:
            codes: (B, h, w) int64 in [0, K).
            max_bits: a code that costs more bits is sampled; a number, or values that broadcast to (B, h, w), with
                inf for a code to keep and -inf for a code to sample.
            noise, temperature, top_k, label, slice, conditions, previous: as in `sample`. The bits
                depend only on the last four.
        Returns:
            (B, h, w) int64 codes.
        Raises:
            UserError: arguments out of range, of the wrong shape, or that do not fit the model; all of them.
        """
        given = GivenCodes.from_limits(codes, max_bits, num_codes=self.num_codes, weight=self.embedding.weight)
        options = SamplingOptions(noise=noise, temperature=temperature, top_k=top_k)
        return self._redraw(given, options, label, slice, conditions, previous)

    def restore_with_bits(
        self,
        codes: Tensor,
        max_bits: float | Tensor,
        noise: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Restore codes as `restore` does, and return their `bits` too, which the same pass computes.

        Returns:
            (B, h, w) int64 codes and (B, h, w) float bits.
        """
        given = GivenCodes.from_limits(
            codes, max_bits, num_codes=self.num_codes, weight=self.embedding.weight, with_bits=True
        )
        options = SamplingOptions(noise=noise, temperature=temperature, top_k=top_k)
        restored = self._redraw(given, options, label, slice, conditions, previous)
        assert given.result_bits is not None
        return restored, given.result_bits.permute(2, 0, 1)

    def _redraw(self, given: GivenCodes, options: SamplingOptions, *conditions: Any, particles: int = 1) -> Tensor:
        """Sample given code maps anew; the conditions are label, slice, conditions and previous of `sample`."""
        B, h, w = given.codes.shape
        known = self.spec.expand(B, *conditions, grid=(h, w))
        require_particles(particles)
        tracked = Particles(given, particles, self.embedding.weight) if particles > 1 else None
        if tracked is not None:
            given, known = tracked.given, known.repeat(particles)
        options.check(B * particles, (h, w), self.num_codes)
        drawn = sample_codes(self, B * particles, (h, w), options, known, given=given, particles=tracked)
        return drawn if tracked is None else drawn[tracked.choose()]

    @torch.no_grad()
    def bits(
        self,
        codes: Tensor,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Return the bits of each code, -log2 of its probability given the codes before it, without dropout.

        The sum over a map is -log2 of the probability of the map.

        Args:
            codes: (B, h, w) int64 in [0, K).
            label, slice, conditions, previous: as in `sample`.
        Returns:
            (B, h, w) float, on the device of the model.
        Raises:
            UserError: codes or conditions of the wrong shape or out of range; all of them.
        """
        require_codes(codes, num_codes=self.num_codes)
        device, training = self.embedding.weight.device, self.training
        known = self.spec.expand(len(codes), label, slice, conditions, previous, grid=codes.shape[1:]).to(device)
        codes = codes.to(device)
        try:
            with torch.autocast(device.type, enabled=False):
                logits = self.eval()(codes, conditions=known)
        finally:
            self.train(training)
        return F.cross_entropy(logits, codes, reduction="none") / math.log(2)
