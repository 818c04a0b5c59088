"""Score slices: accelerate launch -m vqdist.score --prior RUN --pictures DIR --out DIR [--healthy DIR:SPLIT]."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqdist.config.command_line import parse_options
from vqdist.config.slice_options import ScoreOptions
from vqdist.foundation.command import NOTHING_WRITTEN, emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.progress import count_noun, print_message

DESCRIPTION = """\
Measure how likely slices are under a PixelCNN, map where they are unusual, and restore them.

OUT/scores.jsonl has a line for each slice: bits (-log2 of the probability of its codes) and score (mean over the most
unusual part of the brain, in proportion to the rest of it; higher is more unusual). With --healthy, p_value is the
share of slices with at least that score among the healthy ones and the slice itself, and flagged is true where it is
at most --false-positive-rate, which takes 19 healthy slices for 0.05; without --healthy both are null. If the healthy
slices are of fewer than 20 people, training slices, each compared with those of other people, count as healthy too.
Of a volume, voxel_axis and voxel_slice give the place in the file: voxels.take(voxel_slice, axis=voxel_axis).

Example:
  vqdist score --prior runs/mine-prior --data data/mine --healthy data/mine:validate --out scores"""


@explaining_interrupt(NOTHING_WRITTEN)
def main(argv: Sequence[str]) -> None:
    """Run the command. Must be called by all ranks."""
    parsed = parse_options("score", DESCRIPTION, ScoreOptions, argv)
    options = parsed.options
    if options is None or options.find_conflicts():
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import process_group
    from vqdist.evaluation.anomaly.score_report import list_metrics, run_scoring
    from vqdist.inference.scoring import prepare_scoring

    with process_group(options.device) as ranks:
        (scorer,) = collect(lambda: prepare_scoring(options, ranks), problems=parsed.problems)
        report = run_scoring(scorer, ranks)
        if ranks.is_main:
            if "metrics" in report:
                print_message(list_metrics(report))
            print_message(describe_scores(report))
            print_message(f"look at {report['figures'][0]}")
            emit(report)


def describe_scores(report: Mapping[str, Any]) -> str:
    """Return where the scores are, and how many slices are flagged, as text."""
    slices, file = count_noun(report["samples"], "slice"), Path(report["out"]) / "scores.jsonl"
    if "flagged" not in report:
        return f"{file} has bits and score of {slices}; --healthy DIR adds p-values and flags"
    if report["threshold"] is None:
        return f"none of {slices} flagged: too few healthy slices; {file} has all scores"
    return f"{report['flagged']:,} of {slices} flagged (score above {report['threshold']:.3g}); {file} has all scores"


if __name__ == "__main__":
    sys.exit(run_command(main))
