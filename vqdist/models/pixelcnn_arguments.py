"""The arguments of the constructor of a PixelCNN: those of its configuration and those that its dataset determines."""

from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.section import Int, key
from vqdist.foundation.errors import Problem


class PixelCNNArguments(PixelCNNConfig):
    """The keys of a PixelCNN with the arguments that its dataset determines."""

    num_codes: Int = key(512, "number of codes", ge=1)
    num_labels: Int = key(64, "labels are in [0, num_labels)", ge=1)
    num_slices: Int = key(256, "slice numbers are in [0, num_slices), over which slices vary smoothly", ge=1)

    def find_conflicts(self) -> list[Problem]:
        problems = super().find_conflicts()
        if self.symmetry == "auto":
            problems.append(Problem("model.symmetry", "auto", "none or up-down; only a run of train can choose"))
        return problems
