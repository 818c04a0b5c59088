"""The typed options of every command, for its flags, its `--help` and the Python function behind it."""

from pathlib import Path
from typing import Any, Literal, get_args

from vqdist.config.augmentation import MirrorKey
from vqdist.config.command_line import Options
from vqdist.config.option_types import ClassLabel, Text
from vqdist.config.section import Bool, FilePath, Int, PathText, Real, key
from vqdist.foundation.dataset_folder import is_dataset
from vqdist.foundation.errors import Problem
from vqdist.foundation.model_names import VQVAE_FOLDER, is_model_name, show_model_name
from vqdist.foundation.run_status import CONFIG_FILE, STATUS_FILE

Device = Literal["auto", "cpu", "cuda", "mps"]
AUTO = Path("auto")


class ConfigOptions(Options):
    """Options of the commands that take a configuration, besides its keys."""

    config: PathText | None = key(None, "YAML file of configuration keys, or the name of a shipped configuration")


class TrainOptions(ConfigOptions):
    """Options of `vqdist train` besides the keys of the configuration."""

    print_config: Bool = key(False, "print the configuration as YAML to stdout, with all keys, and end")


class DoctorOptions(ConfigOptions):
    """Options of `vqdist doctor`."""

    preflight: Bool = key(False, "run only the checks that one process finishes within a second")


def _image_key() -> Any:
    return key(
        None,
        "third-party shards: extension of the pictures where a sample has several, such as jpg or image.png; null: "
        "data.image_key of the run",
        min_length=1,
    )


def _on_error() -> Any:
    return key(
        None,
        "a sample of third-party shards that cannot be used ends the command, or is left out and counted; null: "
        "data.on_error of the run",
    )


class EncodeOptions(Options):
    """Options of `vqdist encode`."""

    run: FilePath = key(..., "run of the VQ-VAE, folder of a saved model, hf://ORG/NAME[@REVISION], or starter/vqvae")
    data: FilePath = key(..., "dataset of images: folder or URL")
    out: FilePath = key(..., "folder of the dataset of codes; new or empty")
    image_key: str | None = _image_key()
    on_error: Literal["raise", "skip"] | None = _on_error()
    overwrite: Bool = key(False, "replace the contents of --out")
    views: Int = key(
        1, "code maps per train slice: the slice, then mirrored and shifted copies of it", unit="maps", ge=1
    )
    mirror: MirrorKey = key(
        "auto",
        "how every second copy is mirrored; up-down reverses the order of the rows; "
        "auto: up-down for brain slices, where it exchanges left and right, none for other pictures",
    )
    shift: Int = key(0, "largest shift of a copy, up, down, left and right", unit="pixels", ge=0)
    batch_size: Int = key(16, "slices per forward pass", unit="samples", ge=1)
    device: Device = key("auto", "auto: cuda, else mps, else cpu")

    def find_conflicts(self) -> list[Problem]:
        problems = self.find_view_problems(self.mirror)
        if self.shift and self.views == 1:
            found = f"{self.shift} with one view of each slice"
            problems.append(Problem("--shift", found, "also --views, above 1"))
        return problems

    def find_view_problems(self, mirror: str) -> list[Problem]:
        """Return a problem if the views of a slice would be equal; auto may still become a mirroring."""
        different = 1 if mirror == "none" else 2
        if self.views <= different or self.shift:
            return []
        copies = "the slice" + " and its mirror image" * (different - 1)
        expected = f"at most {different}, {copies}, or a --shift above 0"
        if mirror != self.mirror:
            expected += ", or --mirror up-down or left-right: pictures are not mirrored unless asked"
        return [Problem("--views", str(self.views), expected)]


class SampleOptions(Options):
    """Options of `vqdist sample`."""

    prior: FilePath = key(..., "run of the PixelCNN, folder of a saved model, hf://ORG/NAME[@REVISION], or starter")
    out: FilePath = key(..., "folder for the PNG or NIfTI files, grid.png, codes.npy and samples.json; new or empty")
    overwrite: Bool = key(False, "replace the contents of --out")
    num: Int = key(64, "number of slices", unit="slices", ge=1)
    volumes: Int | None = key(
        None,
        "number of whole volumes, drawn slice after slice by a prior with model.context previous, instead of --num",
        unit="volumes",
        ge=1,
    )
    vqvae: FilePath | None = key(None, "run of the VQ-VAE or its name on the hub; null: the one saved with the prior")
    temperature: Real = key(1.0, "divides the logits; 0: take the most likely code")
    top_k: Int = key(0, "sample among the most likely codes only; 0: among all", unit="codes", ge=0)
    seed: Int = key(0, "seed of the noise and of the conditions that are not given")
    label: ClassLabel | None = key(
        None, "class of all slices, by number from 0 or by name; null: drawn from the training data"
    )
    slice: Int | None = key(None, "slice number of all slices; null: drawn from the training data")
    condition: tuple[Text, ...] = key(
        (),
        "NAME=VALUE, such as age=75 sex=F, or unknown; with NAME=A,B,C the slices take the values in turn, with the "
        "same noise; the others are drawn together from the training data",
    )
    guidance: Real = key(0.0, "strengthen the conditions; for a prior trained with model.condition_dropout")
    extrapolate: Bool = key(False, "accept numbers outside of the range of the training data")
    device: Device = key("auto", "auto: cuda, else mps, else cpu")

    def find_conflicts(self) -> list[Problem]:
        """Return a problem for each option of single slices that is given beside --volumes."""
        if self.volumes is None:
            return []
        given = [f"--{name}" for name in ("num", "slice") if name in self.model_fields_set]
        given += ["--condition slice" for text in self.condition if text.partition("=")[0].strip() == "slice"]
        return [Problem(flag, "a value beside --volumes", "one of them") for flag in given]


class EvaluateOptions(Options):
    """Options of `vqdist evaluate`."""

    run: FilePath = key(..., "run, folder of a saved model, hf://ORG/NAME[@REVISION], or starter")
    data: FilePath | None = key(
        None, "dataset of images for a VQ-VAE, of codes for a PixelCNN; null: the one that the run was trained on"
    )
    split: str = key(
        "validate", "split to evaluate: train, validate or test; decide with validate, and use test once, at the end"
    )
    image_key: str | None = _image_key()
    on_error: Literal["raise", "skip"] | None = _on_error()
    samples: FilePath | None = key(None, "folder of samples to compare with the real slices of train and of the split")
    images: FilePath | None = key(
        None, "for --samples of a PixelCNN: dataset of real images; null: the one of its codes"
    )
    features: FilePath | None = key(
        None,
        "for --samples: file of a network for FID and KID: weights of torchvision's Inception v3 (.safetensors), or "
        "TorchScript, which is a program that is executed",
    )
    beside: tuple[FilePath, ...] = key(
        (), "for a VQ-VAE: more runs for the rate-distortion chart and for paired differences"
    )
    pictures: FilePath | None = key(
        None, "picture, folder of pictures or NIfTI volume to reconstruct, instead of --data"
    )
    figures: FilePath | None = key(
        AUTO,
        "folder for figures; auto: RUN/figures, or, for --pictures and a saved model, reconstructions/ beside --out "
        "or in the working directory; null: no figures",
    )
    out: FilePath | None = key(None, "file for the JSON report, in addition to stdout")
    batch_size: Int = key(16, "samples per forward pass; does not change the report", unit="samples", ge=1)
    device: Device = key("auto", "auto: cuda, else mps, else cpu")

    def find_conflicts(self) -> list[Problem]:
        problems = []
        if self.data is not None and self.pictures is not None:
            problems.append(Problem("--data and --pictures", "both", "one of them"))
        if self.data is None and self.pictures is None and not self.is_run:
            if is_dataset(self.run) and not (self.run / VQVAE_FOLDER).is_dir():
                expected = "the folder of a run or of a saved model; a dataset is given with --data"
                problems.append(Problem(f"--run {self.run}", "a dataset of images", expected))
            elif self.run.exists() or is_model_name(self.run):
                kind = "is not the folder of a run, which names its dataset"
                expected = f"one of them, for a PixelCNN a dataset of codes: {show_model_name(self.run)} {kind}"
                problems.append(Problem("--data and --pictures", "neither", expected))
            else:
                problems.append(Problem("--run", f"nothing at {self.run}", "the folder of a run or of a saved model"))
        if self.features is not None and self.samples is None:
            problems.append(Problem("--features", str(self.features), "--samples, which it compares"))
        if self.pictures is not None and self.beside:
            problems.append(Problem("--beside", "runs beside --pictures", "--data"))
        if self.pictures is not None and self.figures is None:
            problems.append(Problem("--figures", "null beside --pictures", "the folder for the reconstructions"))
        return problems

    @property
    def figure_folder(self) -> Path | None:
        """The folder for figures; None for none, which is the default of a split and a model without its run."""
        if self.figures != AUTO:
            return self.figures
        if self.is_run:
            return self.run / "figures"
        return None if self.pictures is None else (self.out or Path()).parent / "reconstructions"

    @property
    def is_run(self) -> bool:
        """Whether --run is the folder of a run, and not that of a saved model.

        A run that failed early has a status and no config.yaml.
        """
        return any((self.run / name).is_file() for name in (CONFIG_FILE, STATUS_FILE))


BenchPart = Literal["quantizer", "step", "sampler", "loader", "resume", "start", "checkpoint", "ddp", "quality"]
BENCH_PARTS = tuple(part for part in get_args(BenchPart) if part != "quality")


class BenchOptions(Options):
    """Options of `vqdist bench`."""

    parts: tuple[BenchPart, ...] = key((), f"{', '.join(BENCH_PARTS)} (the default), or quality", positional="PART")
    run: FilePath | None = key(None, "for quality: run of a VQ-VAE")
    data: FilePath | None = key(None, "for quality: the dataset of images of the run")
    out: FilePath | None = key(None, "file for the JSON report, in addition to stdout")
    repeats: Int = key(5, "repetitions of each measurement, at least 5; the median is reported", ge=1)
    small: Bool = key(False, "tiny sizes, to test that every part runs; the figures mean nothing")

    def find_conflicts(self) -> list[Problem]:
        given = {"--run": self.run, "--data": self.data}
        problems = []
        if "quality" in self.parts:
            missing = " and ".join(flag for flag, value in given.items() if value is None)
            if missing:
                expected = "the run of a VQ-VAE and the dataset that it was trained on"
                problems.append(Problem("quality", f"no {missing}", expected))
        else:
            problems += [
                Problem(flag, str(value), "only with the part quality") for flag, value in given.items() if value
            ]
        if self.repeats < 5 and not self.small:
            problems.append(Problem("--repeats", str(self.repeats), "at least 5, or --small true"))
        return problems
