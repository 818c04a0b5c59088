"""The comparison of samples with real slices as a table for the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from vqdist.foundation.figure_text import format_figure, format_summary
from vqdist.foundation.progress import count_noun

_FIGURES = {
    "brain_area": "brain area",
    "foreground_area": "foreground area",
    "ventricle_area": "fluid in the inner brain",
    "left_right": "left-right similarity",
    "fine_detail_db": "fine detail, dB",
}
_FIT = {"brain_area": "fit of brain to slice", "ventricle_area": "fit of fluid to slice"}


def describe_realism(realism: Mapping[str, Any], split: str) -> list[str]:
    """Return a heading and rows about samples: the figure of the samples, and those of real slices.

    Args:
        realism: the comparison of the samples; its "test" stands for the real slices of the split.
    """
    rows = [*_list_sets(realism, split), *_list_copies(realism["copies"], split), *_list_slices(realism, split)]
    rows += _list_volumes(realism["volumes"], split) if "volumes" in realism else []
    width = max(len(name) for name, _, _ in rows)
    heading = f"{count_noun(realism['samples'], 'sample')} beside real slices of train and {split}, 95 % intervals"
    return [heading, *(f"  {name:<{width}}  {figure:>7}  {beside}".rstrip() for name, figure, beside in rows)]


def _list_sets(realism: Mapping[str, Any], split: str) -> Iterator[tuple[str, str, str]]:
    distances, coverage = realism["feature_distance"], realism["coverage"]
    person, people = ("person", "people") if "anatomy_by_slice" in realism else ("subject", "subjects")
    floor = f"train to {split} {format_summary(distances['train_test'])}"
    yield f"feature distance to {split}", format_summary(distances["samples_test"]), floor
    yield (
        "feature distance to train",
        format_summary(distances["samples_train"]),
        f"below 0: nearer than a new {person}",
    )
    for name in ("coverage", "density"):
        of_train = f"as many slices of train {format_summary(coverage['train'][name])}"
        yield f"{name} of {split}", format_summary(coverage["samples"][name]), of_train
    effective = f"slices of train, without their own {person}, {format_figure(coverage['train']['subjects'])}"
    yield f"train {people} resembled", format_figure(coverage["samples"]["subjects"]), effective
    yield from _list_people(realism["same_person_pairs"], people)
    for name in ("fid", "kid"):
        if name in realism:
            yield f"{name.upper()} to {split}", *_describe_pair(realism[name])
    pairs, grey = realism["diversity"], realism["grey_values"]
    beside = f"train {format_figure(pairs['train'])}, {split} {format_figure(pairs['test'])}"
    yield "MS-SSIM of pairs", format_figure(pairs["samples"]), beside
    yield "grey value distance", format_figure(grey["samples_test"]), f"train {format_figure(grey['train_test'])}"


def _list_people(pairs: Mapping[str, Any], people: str) -> Iterator[tuple[str, str, str]]:
    samples, train = pairs["samples"], pairs["train"]
    if samples["mean"] is not None:  # None: no neighbouring slices, or people that cannot be told apart
        fewer = samples["low"] is not None and samples["low"] > train
        beside = f"train {count_people(train)}{'; fewer than in train' if fewer else ''}"
        yield f"{people} among the samples", format_people(samples), beside


def format_people(share: Mapping[str, float | None]) -> str:
    """Return the number of people and its interval, or its lower limit where no pair shows the same person."""
    mean, low, high = (share[name] for name in ("mean", "low", "high"))
    if not mean:
        return f"above {count_people(high)}" if high else "none"
    return count_people(mean) if not low else f"{count_people(mean)}  {count_people(high)} to {count_people(low)}"


def count_people(share: float | None) -> str:
    """Return the effective number of people for a share of same-person pairs."""
    return f"{1 / share:,.1f}" if share else "none"


def _describe_pair(found: Mapping[str, float | None]) -> tuple[str, str]:
    return format_figure(found["samples_test"]), f"train {format_figure(found['train_test'])}"


def _list_copies(copies: Mapping[str, Any], split: str) -> Iterator[tuple[str, str, str]]:
    samples, real, limits = copies["samples"], copies["test"], copies["limits"]
    yield "near copies", str(samples["near_copies"]), f"{split} {real['near_copies']} of {real['slices']}"
    limit = f"{split} {format_figure(real['largest'])}; near copy above {format_figure(limits['whole'])}"
    yield "most similar to train", format_figure(samples["largest"]), limit
    kinds = copies["calibration"]["kinds"]
    missed = [
        f"{name} {kind['found']} of {kind['copies']}" for name, kind in kinds.items() if kind["found"] < kind["copies"]
    ]
    found, total = (sum(kind[key] for kind in kinds.values()) for key in ("found", "copies"))
    beside = f"of {total} altered copies of {copies['calibration']['train_slices']} train slices"
    yield "found by this limit", str(found), f"{beside}{': ' if missed else ''}{', '.join(missed)}"


def _list_slices(realism: Mapping[str, Any], split: str) -> Iterator[tuple[str, str, str]]:
    figures, fit = realism["slice_figures"], realism.get("anatomy_by_slice", {})  # none of pictures
    people = "people" if fit else "pictures"
    for name, label in ((name, label) for name, label in _FIGURES.items() if name in figures):
        found, difference = figures[name], figures[name]["difference"]
        low, high = difference["low"], difference["high"]
        real = "; ".join(
            f"{shown} {format_figure(found[key]['mean'])}" for key, shown in (("train", "train"), ("test", split))
        )
        differs = low is not None and high is not None and not low <= 0 <= high
        note = f"; differs from real {people} by {format_summary(difference)}" if differs else ""
        yield label, format_figure(found["samples"]["mean"]), real + note
    for name, label in _FIT.items() if fit else ():
        samples, real = fit[name]["samples"], fit[name]["test"]
        if samples["correlation"] is not None:  # None: too few slice numbers
            beside = f"correlation; {split} {format_figure(real['correlation'])}"
            yield label, format_figure(samples["correlation"]), beside


def _list_volumes(volumes: Mapping[str, Any], split: str) -> Iterator[tuple[str, str, str]]:
    """Return rows about sampled volumes: name, figure, and the same figure of the real ones."""
    sampled, real = volumes["neighbours"]["samples"], volumes["neighbours"].get("test", {})
    titles = {
        "ssim": "SSIM of neighbours",
        "agreement": "equal codes of neighbours",
        "difference": "grey difference of neighbours",
        "flips": "ventricle flips",
    }
    for name, title in ((name, title) for name, title in titles.items() if name in sampled):
        mean, spread = _read_spread(sampled[name])
        beside = ", spread ".join(format_figure(figure) for figure in _read_spread(real.get(name)))
        yield title, format_figure(mean), f"spread {format_figure(spread)}; {split} {beside}"
    drift, copies = volumes["drift"]["samples"], volumes["copies"]["samples"]
    yield "drift", format_figure(drift["ratio"]), "feature distance of the last 8 slices over that of the first 8"
    yield "near copies of volumes", format_figure(copies["near_copies"]), f"of {copies['volumes']}"


def _read_spread(figure: Mapping[str, float] | None) -> tuple[float | None, float | None]:
    """Return mean and spread of a figure."""
    return (None, None) if figure is None else (figure["mean"], figure["spread"])
