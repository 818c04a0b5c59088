"""Options of the commands that work on slices with a PixelCNN: `vqdist complete` and `vqdist score`."""

from vqdist.config.command_line import Options
from vqdist.config.command_options import Device
from vqdist.config.option_types import Place
from vqdist.config.section import Bool, FilePath, Int, Real, key
from vqdist.foundation.errors import Problem


class SliceOptions(Options):
    """Options that both commands have."""

    prior: FilePath = key(..., "run of the PixelCNN, folder of a saved model, hf://ORG/NAME[@REVISION], or starter")
    pictures: FilePath | None = key(
        None, "picture, folder of pictures or, for score, NIfTI volume; either this or --data"
    )
    data: FilePath | None = key(None, "dataset of images: folder or URL")
    split: str = key("test", "split of --data: train, validate or test")
    condition: tuple[str, ...] = key(
        (),
        "NAME=VALUE for all slices, such as slice=12 age=75 sex=F, or label=CLASS (number or name); default: from "
        "--data, from the samples.json of pictures that vqdist sample wrote, or a slice number from names such as "
        "case_1_slice_12.png",
    )
    out: FilePath = key(..., "folder for the results")
    seed: Int = key(0, "seed of the noise")
    overwrite: Bool = key(False, "replace the contents of --out")
    device: Device = key("auto", "auto: cuda, else mps, else cpu")

    def find_conflicts(self) -> list[Problem]:
        """Return a problem unless exactly one of --pictures and --data is given."""
        if (self.data is None) == (self.pictures is None):
            return [Problem("--pictures and --data", "neither" if self.data is None else "both", "one of them")]
        return []


class CompleteOptions(SliceOptions):
    """Options of `vqdist complete`."""

    mask: FilePath = key(
        ..., "mask of all slices, of their size, or a folder of masks named like the slices; white is filled in"
    )
    out: FilePath = key(..., "folder for the completions, grid.png and completions.json")
    num: Int = key(4, "completions of each slice", unit="completions", ge=1)
    draws: Int = key(
        4,
        "candidates for each completion, each the mean of --average draws; of all candidates for a slice, the --num "
        "with the fewest bits are kept",
        unit="candidates",
        ge=1,
    )
    average: Int = key(
        1,
        "draws of each candidate: the files and grid.png show the mean of the decoded draws, its bits are the mean of "
        "theirs, and NAME-codes.npy has the codes of all (num, average, h, w), or for 1 (num, h, w)",
        unit="draws",
        ge=1,
    )
    particles: Int = key(
        1,
        "maps of each draw that pass a particle filter, so that the draw agrees with the codes behind the hole; 1: it "
        "depends only on the codes before it",
        unit="maps",
        ge=1,
    )
    temperature: Real = key(1.0, "divides the logits; 0: take the most likely code")
    top_k: Int = key(0, "sample among the most likely codes only; 0: among all", unit="codes", ge=0)


class ScoreOptions(SliceOptions):
    """Options of `vqdist score`."""

    out: FilePath = key(..., "folder for scores.jsonl, maps and restored slices")
    masks: FilePath | None = key(
        None, "folder of masks of the lesions, named like the slices: report metrics; a slice without mask is healthy"
    )
    healthy: Place | None = key(
        None,
        "healthy slices that the others are compared with: DIR or DIR:SPLIT, a dataset, SPLIT: validate; or a folder "
        "of pictures",
    )
    restorations: Int = key(15, "restorations of each slice", unit="restorations", ge=1)
    restore_percentile: Real = key(
        80.0, "codes that cost more bits than this percentile of the healthy codes are redrawn", unit="%", gt=0, lt=100
    )
    false_positive_rate: Real = key(
        0.05, "slices with a p_value of at most this are flagged: about this share of healthy slices", gt=0, lt=1
    )
