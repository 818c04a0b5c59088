"""Complete code maps with a particle filter, so that drawn codes agree with the kept codes that come after them.

Several maps, the particles, are drawn together for each map. A kept code behind the first drawn one is evidence: it
multiplies the weight of a particle by its probability given the codes of that particle. At the end of a row, particles
whose weights have become uneven are replaced by copies of those with large weights (sequential importance resampling;
Gordon et al. 1993). With many particles, a particle chosen by its weight is a sample from the distribution of the drawn
codes given all kept ones.

Shapes: B maps, N particles of each, h w grid, K codes.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from vqdist.models.given_codes import GivenCodes


class Particles:
    """N particles of each of B maps; particle n of map b is map b N + n of the sampler.

    All random decisions use the noise of kept codes behind the first drawn one, which draws no code.

    Args:
        given: codes and places of the B maps; places are kept or drawn whatever their bits.
        count: N.
        weight: of the model; weights of particles are on its device and in its dtype.
    Attributes:
        given: those of all particles.
        log_weights: (B, N).
    """

    def __init__(self, given: GivenCodes, count: int, weight: Tensor) -> None:
        B, h, w = given.codes.shape
        drawn = given.max_bits.to(weight.device) == -math.inf
        self.evidence = (drawn.flatten(1).cumsum(dim=1) > 0).view(B, h, w) & ~drawn
        # After the last drawn code a copy of a particle stays a copy, so that only the weights matter there. The noise
        # of the last row with evidence is left for the choice of a particle.
        self.last_resampling = torch.minimum(_last_row(drawn), _last_row(self.evidence)) - 1
        self.log_weights = weight.new_zeros(B, count, requires_grad=False)
        self.noise = torch.zeros_like(self.log_weights)
        rows = drawn.any(dim=2).any(dim=0).nonzero()[:1, 0].tolist()
        self.given = replace(
            given,
            codes=given.codes.repeat_interleave(count, dim=0),
            max_bits=given.max_bits.repeat_interleave(count, dim=0),
            result_bits=weight.new_zeros(h, w, B * count, requires_grad=False),
            first_row=rows[0] if rows else h,
        )

    def end_row(self, y: int, noise: Tensor) -> Tensor | None:
        """Update the weights after a row; return which maps replace the (B N,) maps, or None if all stay.

        Args:
            noise: (B N, w, K), of row y. Waits for the device.
        """
        assert self.given.result_bits is not None
        B, N = self.log_weights.shape
        evidence = self.evidence[:, y]
        bits = self.given.result_bits[y].t().reshape(B, N, -1)
        self.log_weights -= (bits * evidence[:, None]).sum(dim=2) * math.log(2)
        columns = torch.arange(evidence.shape[1], device=evidence.device)
        last = (evidence * columns).amax(dim=1)
        unused = noise[:, :, 0].reshape(B, N, -1)[torch.arange(B, device=last.device), :, last]
        found = evidence.any(dim=1)
        self.noise = torch.where(found[:, None], unused, self.noise)
        shares = self.log_weights.softmax(dim=1)
        uneven = shares.square().sum(dim=1) * N > 2  # the effective number of particles is below N / 2
        resampled = uneven & found & (self.last_resampling >= y)
        if not bool(resampled.any()):
            return None
        self.log_weights = self.log_weights.masked_fill(resampled[:, None], 0)
        ordered = torch.arange(N, device=last.device)
        uniform = unused[:, 0].neg().exp().neg().exp()
        chosen = torch.where(resampled[:, None], resample(shares, uniform), ordered)
        return (chosen + N * torch.arange(B, device=last.device)[:, None]).flatten()

    def choose(self) -> Tensor:
        """Return one map for each of the B maps, chosen by its weight: (B,)."""
        B, N = self.log_weights.shape
        best = (self.log_weights + self.noise).argmax(dim=1)  # a sample from the weights, because the noise is Gumbel
        return best + N * torch.arange(B, device=best.device)


def resample(shares: Tensor, uniform: Tensor) -> Tensor:
    """Return particles in numbers proportional to their shares up to rounding, (B, N): systematic resampling.

    Args:
        shares: (B, N), which sum to 1.
        uniform: (B,) in [0, 1).
    """
    N = shares.shape[1]
    places = (torch.arange(N, device=shares.device) + uniform[:, None]) / N
    return torch.searchsorted(shares.cumsum(dim=1), places, right=True).clamp_(max=N - 1)


def _last_row(places: Tensor) -> Tensor:
    """Return the last row of each map (B, h, w) with a place, (B,); 0 without any."""
    return (places.any(dim=2) * torch.arange(places.shape[1], device=places.device)).amax(dim=1)
