"""Convert pictures, volumes or synthetic brains to a dataset of shards: vqdist shard SOURCE OUT."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqdist.config.command_line import parse_options
from vqdist.config.loading import load_config
from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import CONFIGS
from vqdist.config.shard_options import ShardOptions
from vqdist.foundation.command import NOTHING_WRITTEN, emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, DataError, VqdistError, collect, list_examples
from vqdist.foundation.progress import count_noun, print_message

if TYPE_CHECKING:
    from vqdist.data.shards.manifest import Manifest
    from vqdist.data.sources.source import Source

RECOMMENDED = "vqvae_oasis"
DESCRIPTION = """\
Convert pictures, volumes or synthetic brains to a dataset of verified WebDataset shards.

SOURCE is the word demo, or a folder in one of these layouts:
  imagefolder  CLASS/picture.png (any format), optionally inside train/, validate/ and test/; classes become labels
  oasis-png    keras_png_slices_{train,validate,test}/case_NNN_slice_M.nii.png
  oasis1       disc*/OAS1_NNNN_MRk/PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.{hdr,img}
  nifti        *.nii and *.nii.gz
  webdataset   *.tar, also a single tar or a pattern such as shards/train-{000..007}.tar, with pictures of any size
Splits of the folders are kept. Otherwise the subjects are split, never the slices of a subject. The subject comes from
the file name (OAS1_0101, sub-12, case_012, patient_7, ...) or, if that identifies no person, from the folder
(12/T1.nii.gz, patient_a/001.png); 100_left.png and 100_right.png are one subject; any other picture without either is
its own subject. The command prints how it identified the subjects; --subject-pattern and --subject-from override it.
Segmentation masks beside images are left out. --table adds age, sex and other attributes of the subjects, on which a
prior can be conditioned; the .txt files of the oasis1 layout are read without it. OUT is written atomically."""


@explaining_interrupt(NOTHING_WRITTEN)
def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parsed = parse_options("shard", DESCRIPTION, ShardOptions, argv)
    options = parsed.options
    if options is None:
        raise ConfigError(parsed.problems)

    from vqdist.data.shards.build import write_source
    from vqdist.data.sources.shard_source import attach_attributes, find_doubts, open_shard_source, split_source
    from vqdist.foundation.atomic_files import check_output, find_leftovers
    from vqdist.runs.environment import count_cores

    source, _ = collect(
        lambda: open_shard_source(options),
        lambda: check_output(options.out, overwrite=options.overwrite),
        problems=parsed.problems,
    )
    source = attach_attributes(source, options)
    for left in find_leftovers(options.out):
        print_message(f"{left} is a temporary folder of a killed command, or of one that runs now; it is not a dataset")
    describe_source(source)
    if message := describe_size(options.image_size):
        print_message(f"WARNING: {message}")
    splits = split_source(source, options)
    doubts = find_doubts(source, splits)
    if doubts and options.strict:
        raise DataError(doubts)
    for doubt in doubts:
        print_message(f"WARNING: {doubt}")
    try:
        manifest, skipped = write_source(
            source,
            splits,
            options.out,
            origin=options.source,
            shares=options.shares,
            seed=options.seed,
            image_size=options.image_size,
            num_slices=options.num_slices,
            samples_per_shard=options.samples_per_shard,
            skip_unreadable=options.on_error == "skip",
            overwrite=options.overwrite,
            selection=options.selection,
            workers=options.workers or count_cores(),
        )
    except OSError as error:
        raise VqdistError(f"{options.out}: {error.strerror or error}; nothing was written") from error
    warn(manifest, options.shares, given_splits=any(file.split for file in source.files))
    size = " x ".join(map(str, manifest.image_size))
    print_message(f"wrote {describe_splits(manifest)}, {size} pixels each, to {options.out}")
    if doubts:  # their text may have left the screen
        print_message(f"{count_noun(len(doubts), 'WARNING')} above; --strict true refuses such data")
    emit(describe_result(options, manifest, skipped))


def describe_source(source: "Source") -> None:
    """Print what was found, so that a wrong guess of layout or subjects is noticed."""
    print_message(f"{source.layout}: {count_noun(len(source.files), 'file')}")
    print_message(source.subject_summary)
    if source.layout == "nifti":
        print_message(
            "the slices are centred on the extent of the brain in each volume; of a human head they are 1 mm apart"
        )
    if source.class_names:
        print_message(f"classes: {list_examples([f'{i} {name}' for i, name in enumerate(source.class_names)])}")
    if source.no_classes:
        print_message(f"classes: none; {source.no_classes}")
    if source.masks:
        many = count_noun(len(source.masks), "segmentation mask")
        print_message(f"left out: {many}, such as {source.masks[0]}; --include with a pattern of masks only takes them")
    if source.passed_over:
        many = count_noun(len(source.passed_over), "file")
        print_message(f"ignored, not of this layout: {many}, such as {source.passed_over[0]}")


def describe_size(image_size: int) -> str:
    """Return a warning about a size that the recommended configuration cannot train on; empty for others."""
    from vqdist.metrics.images import MIN_SSIM_SIZE

    config, _ = load_config(CONFIGS / f"{RECOMMENDED}.yaml", ())
    assert config is not None, "a shipped configuration is valid"
    assert isinstance(config.model, VQVAEConfig), "RECOMMENDED is a VQ-VAE"
    fitting = config.model.list_fitting_sizes(image_size, smallest=MIN_SSIM_SIZE)
    if image_size in fitting:
        return ""
    found = f"--image-size {image_size} does not fit {RECOMMENDED}, which needs a multiple of {config.model.downsample}"
    sizes = f"shard with --image-size {' or '.join(map(str, fitting))}"
    if image_size < MIN_SSIM_SIZE:
        return f"{found} and at least {MIN_SSIM_SIZE} pixels: {sizes}"
    other = config.model.advise_downsample((image_size, image_size))
    return f"{found}: {sizes}" + (f", or train with {other}" if other else "")


def warn(manifest: "Manifest", shares: Sequence[float], *, given_splits: bool) -> None:
    """Print what is probably not intended."""
    wanted = zip(("train", "validate", "test"), shares, strict=True)
    missing = [split for split, share in wanted if share > 0 and split not in manifest.splits]
    if given_splits and missing:
        names = " and no ".join(missing)
        print_message(f"the source has no {names} split; pass --split to take it out of train")
    for name, split in manifest.splits.items():
        if split.mean and max(split.mean) < 0.02:
            print_message(f"{name} is very dark, mean {max(split.mean):.3f} of 1: do its pixels have fewer bits?")


def describe_splits(manifest: "Manifest") -> str:
    """Return the samples and subjects of each split."""
    counts = [
        f"{name} {count_noun(split.samples, 'slice')} of {count_noun(split.subjects, 'subject')}"
        for name, split in manifest.splits.items()
    ]
    return ", ".join(counts)


def describe_result(options: ShardOptions, manifest: "Manifest", skipped: list[str]) -> dict[str, Any]:
    """Return the JSON result of the command."""
    counts = {
        name: {"samples": split.samples, "subjects": split.subjects, "shards": len(split.shards)}
        for name, split in manifest.splits.items()
    }
    skips = {"skipped": len(skipped)} if options.on_error == "skip" else {}
    return {"out": str(options.out), "splits": counts, **skips}


if __name__ == "__main__":
    sys.exit(run_command(main))
