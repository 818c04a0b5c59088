"""Turn pictures, volumes or made-up brains into a data set: python -m vqdist.shard SOURCE OUT."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqdist.foundation.command import Parser, emit, path, run_command, text, within
from vqdist.foundation.errors import Problem, VqdistError, collect
from vqdist.foundation.progress import count_noun, print_message

if TYPE_CHECKING:
    from vqdist.data.shards.manifest import Manifest
    from vqdist.data.sources.layouts import Source

_SHARES = (0.8, 0.1, 0.1)
_DESCRIPTION = """\
Turn pictures, volumes or made-up brains into a data set of verified WebDataset shards.

SOURCE is the word demo, or a folder in one of these layouts:
  imagefolder  CLASS/picture.png (any format), perhaps below train/, validate/ and test/; labels are kept
  oasis-png    keras_png_slices_{train,validate,test}/case_NNN_slice_M.nii.png
  oasis1       disc*/OAS1_NNNN_MRk/PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.{hdr,img}
  nifti        *.nii and *.nii.gz
Splits that the folders give are kept. Otherwise subjects are split, never slices: the subject is what a name
tells (OAS1_0101, sub-12, case_012, patient_7 ...), else each file is its own. OUT appears whole or not at all."""


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.shard", _DESCRIPTION)
    parser.place("SOURCE", text, help="folder, or demo")
    parser.place("OUT", path, help="folder of the data set; new or empty")
    layouts = ["auto", "imagefolder", "oasis-png", "oasis1", "nifti"]
    parser.option("--layout", str, default="auto", choices=layouts, help="what SOURCE holds; auto looks")
    parser.option("--image-size", within(int, 1, 4096), default=256, unit="pixels", help="rows and columns of a slice")
    parser.option(
        "--samples-per-shard", within(int, 1, 10**6), default=256, unit="slices", help="in each shard but the last"
    )
    parser.option(
        "--split", float, default=_SHARES, nargs=3, unit="shares of subjects", help="train, validate and test"
    )
    parser.option(
        "--seed", int, default=0, help="decides which subject goes where, and what the demo's brains look like"
    )
    parser.option(
        "--num-slices", within(int, 1, 4096), default=32, unit="slices", help="the middle axial ones of a volume"
    )
    parser.option("--channels", str, default="auto", choices=["auto", "1", "3"], help="grey or colour")
    on_error = "a file that cannot be read: end, or skip it and count it"
    parser.option("--on-error", str, default="raise", choices=["raise", "skip"], help=on_error)
    parser.option("--num-subjects", within(int, 1, 10**6), default=24, unit="subjects", help="of the demo")
    parser.switch("--overwrite", help="replace what is in OUT")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command; see the module's docstring."""
    args = build_parser().parse_args(argv)

    from vqdist.data.shards.build import write_source
    from vqdist.data.sources.layouts import open_source
    from vqdist.data.sources.splits import assign_splits
    from vqdist.foundation.atomic_files import check_output, find_leftovers

    def open_it() -> "Source":
        return open_source(
            args.source,
            layout=args.layout,
            image_size=args.image_size,
            channels=None if args.channels == "auto" else int(args.channels),
            num_slices=args.num_slices,
            num_subjects=args.num_subjects,
            seed=args.seed,
        )

    def check_out() -> None:
        check_output(args.out, overwrite=args.overwrite)

    source, _ = collect(open_it, check_out, problems=args.problems + _find_problems(args))
    for left in find_leftovers(args.out):
        print_message(f"{left} was left behind by a killed command, or is being written; it is no data set")
    _describe(source)
    shares = dict(zip(("train", "validate", "test"), args.split, strict=True))
    given = [(file.subject, file.split) for file in source.files]
    splits = assign_splits(given, shares, fill=args.split is not _SHARES, seed=args.seed)
    try:
        manifest, skipped = write_source(
            source,
            splits,
            args.out,
            origin=str(args.source),
            shares=args.split,
            seed=args.seed,
            image_size=args.image_size,
            num_slices=args.num_slices,
            samples_per_shard=args.samples_per_shard,
            skip_unreadable=args.on_error == "skip",
            overwrite=args.overwrite,
        )
    except OSError as error:
        raise VqdistError(f"{args.out}: {error.strerror or error}; nothing was written") from error
    _warn(manifest, shares, given_splits=any(split for _, split in given))
    emit(_result(args, manifest, skipped))


def _find_problems(args: argparse.Namespace) -> list[Problem]:
    """Return what is wrong between values that are each right by themselves."""
    problems = []
    if not (min(args.split) >= 0 and abs(sum(args.split) - 1) <= 1e-3):  # so that NaN is wrong, too
        found = " ".join(f"{share:g}" for share in args.split)
        problems.append(Problem("--split", found, "three shares from 0 to 1 that add up to 1"))
    if args.source != "demo":
        source, out = Path(os.path.realpath(args.source)), Path(os.path.realpath(args.out))
        if out == source or out in source.parents:
            problems.append(Problem("OUT", str(args.out), "a folder that does not hold SOURCE"))
    return problems


def _describe(source: "Source") -> None:
    """Say what was found, so that a wrong guess is seen."""
    subjects = list(dict.fromkeys(file.subject for file in source.files))
    names = ", ".join(subjects[:3]) + (" ..." if len(subjects) > 3 else "")
    print_message(
        f"{source.layout}: {count_noun(len(source.files), 'file')} of {count_noun(len(subjects), 'subject')} ({names})"
    )
    if source.class_names:
        print_message(f"classes: {', '.join(f'{i} {name}' for i, name in enumerate(source.class_names[:20]))}")
    if source.passed_over:
        many = count_noun(len(source.passed_over), "file")
        print_message(f"passed over, not of this layout: {many}, such as {source.passed_over[0]}")


def _warn(manifest: "Manifest", shares: dict[str, float], *, given_splits: bool) -> None:
    """Say what is likely not meant."""
    missing = [split for split, share in shares.items() if share > 0 and split not in manifest.splits]
    if given_splits and missing:
        print_message(
            f"the folders give no {' and no '.join(missing)} split, and none was made; "
            "with an explicit --split it is taken out of train"
        )
    for name, split in manifest.splits.items():
        if split.mean and max(split.mean) < 0.02:
            print_message(f"{name} is very dark, {max(split.mean):.3f} of 1 on average: are its pixels of fewer bits?")


def _result(args: argparse.Namespace, manifest: "Manifest", skipped: list[str]) -> dict[str, Any]:
    counts = {
        name: {"samples": split.samples, "subjects": split.subjects, "shards": len(split.shards)}
        for name, split in manifest.splits.items()
    }
    skips = {"skipped": len(skipped)} if args.on_error == "skip" else {}
    return {"out": str(args.out), "splits": counts, **skips}


if __name__ == "__main__":
    sys.exit(run_command(main))
