"""Sample from a PixelCNN with a cache, so that each code is computed once; Ramachandran et al. 2017.

Shapes: B maps, h w grid, C channels of both stacks, K codes.
"""

from dataclasses import replace

import torch
from torch import Tensor

from vqdist.models.cuda_graphs import can_capture
from vqdist.models.given_codes import GivenCodes, GivenRow
from vqdist.models.map_conditions import MapConditions
from vqdist.models.particles import Particles
from vqdist.models.sampler_cache import SampledModel, SamplerCache
from vqdist.models.sampling_options import SamplingOptions

MIN_GRAPHED_ROWS = 8  # a capture takes about as long as three rows


def sample_codes(
    model: SampledModel,
    num: int,
    grid: tuple[int, int],
    options: SamplingOptions,
    known: MapConditions,
    *,
    given: GivenCodes | None = None,
    particles: Particles | None = None,
) -> Tensor:
    """Sample code maps (num, h, w), one code at a time in raster order; arguments as in PixelCNN.sample.

    Args:
        known: those that the model is conditioned on.
        given: the codes to start from, which are kept unless their bits exceed their limits; None: all are sampled.
        particles: those that `given` belongs to, whose weights the pass updates.
    """
    weight = model.embedding.weight
    with torch.inference_mode(), torch.autocast(weight.device.type, enabled=False):
        known = known.to(weight.device)
        copies = 2 if options.guidance else 1  # of each map: with conditions and without
        known = known.join(known.hide_all()) if options.guidance else known
        h, w = grid
        cache = SamplerCache(model, num, w, copies=copies)
        codes = torch.empty(h, w, num, dtype=torch.int64, device=weight.device)
        if options.noise is not None:
            options = replace(options, noise=options.noise.to(weight))  # at once: a copy in each row would wait
        rows: list[GivenRow | None] = [None] * h
        if given is not None:
            codes.copy_(given.codes.permute(1, 2, 0))
            rows = [*given.list_rows(weight.device)]
        if num and rows.count(None) >= MIN_GRAPHED_ROWS and can_capture(weight.device):
            cache.capture_row(options, weight.new_zeros(num, w, model.num_codes), torch.zeros_like(codes[0]))
        before = None if model.previous is None else model.previous.read(known.previous, model.embedding, drop=False)
        middle, opposite = h - h // 2, None  # first row below the middle; its and the later rows' mirrored features
        for y, row in enumerate(rows if num else []):
            context = model.context.rows(h, w, known, first=y, last=y + 1)[:, 0]
            if before is not None:
                context = context + (before if before.ndim == 1 else before[:, y])
            if model.opposite is not None and y == middle:
                upper = codes[: h - middle].permute(2, 0, 1).repeat(copies, 1, 1)
                opposite = model.opposite(model.embedding(upper), drop=False)
            if opposite is not None:
                context = context + opposite[:, y - middle]
            cache.advance_rows(y, context)
            if row is not None and not row.end:
                cache.skip_row(codes[y])
                continue
            noise = options.row_noise(y, (num, w, model.num_codes), weight)
            cache.sample_row(options, noise, codes[y], row)
            if particles is not None and (maps := particles.end_row(y, noise)) is not None:
                cache.take(maps)
                codes, opposite = codes[:, :, maps], None if opposite is None else opposite[maps]
    # Cloned outside of inference mode: the result is an ordinary tensor.
    return codes.permute(2, 0, 1).clone(memory_format=torch.contiguous_format)
