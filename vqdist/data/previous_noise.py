"""Changes of the previous maps that a PixelCNN is trained on, drawn from the seed, the step and the position.

Without them the prior would trust every code of the previous map. When a volume is sampled, that map has errors, which
would add up from slice to slice.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqdist.foundation.seeds import derive_seed
from vqdist.models.map_conditions import NO_CODE

SIMILAR_CODES = 8

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PreviousNoise:
    """Leaves out a share of the previous maps, and replaces codes of the others by similar ones.

    Attributes:
        similar: (K, n) the codes nearest to each code in the codebook.
        dropout: share of the maps that are left out.
        noise: largest share of the codes that are replaced in a map; the share of a map is uniform in [0, noise].
    """

    similar: Codes
    dropout: float
    noise: float
    seed: int

    def apply(self, codes: npt.NDArray[np.int32], step: int, position: int) -> npt.NDArray[np.int32]:
        """Return the previous map of a sample, (h, w), changed.

        Args:
            step: from 1.
            position: of the sample in the global batch.
        """
        rng = np.random.default_rng(derive_seed(self.seed, "previous map", step, position))
        if rng.random() < self.dropout or codes.flat[0] == NO_CODE:
            return np.full_like(codes, NO_CODE)
        replaced = rng.random(codes.shape) < self.noise * rng.random()
        chosen = rng.integers(self.similar.shape[1], size=codes.shape)
        return np.where(replaced, self.similar[codes, chosen].astype(codes.dtype), codes)


def find_similar_codes(codebook: npt.NDArray[np.float32]) -> Codes:
    """Return the nearest other codes of each code, (K, n) with n at most SIMILAR_CODES.

    Args:
        codebook: (K, D).
    """
    vectors = codebook.astype(np.float64)
    squares = (vectors**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    return distances.argsort(axis=1, kind="stable")[:, : min(SIMILAR_CODES, len(vectors) - 1)]
