"""Assignment of subjects to splits: all slices of a subject are in the same split."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from vqdist.data.shards.manifest import SPLITS
from vqdist.foundation.errors import DataError, Problem
from vqdist.foundation.seeds import derive_seed


def split_subjects(subjects: Sequence[str], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Return the split of each subject.

    The counts are the whole numbers closest to the shares, with at least one subject for each share above zero. The
    assignment depends only on the seed and the names.

    Args:
        subjects: names; they may repeat.
        shares: split -> share; normalised to a sum of 1.
    Raises:
        DataError: fewer subjects than shares above zero.
    """
    names = sorted(set(subjects), key=lambda name: (derive_seed(seed, "split", name), name))
    wanted = {split: share for split, share in shares.items() if share > 0}
    if len(names) < len(wanted):
        raise DataError.of(
            "--split",
            f"{len(names)} subject{'s' * (len(names) != 1)} for {len(wanted)} shares above zero "
            f"({', '.join(wanted)}): {', '.join(sorted(names)[:5])}",
            f"at least {len(wanted)} subjects, or shares of 0, such as --split 1 0 0",
        )
    total = sum(wanted.values())
    exact = {split: share * len(names) / total for split, share in wanted.items()}
    counts = {split: max(1, int(count)) for split, count in exact.items()}
    while (left := len(names) - sum(counts.values())) != 0:
        step = 1 if left > 0 else -1
        movable = [split for split in counts if counts[split] + step >= 1]
        counts[max(movable, key=lambda split: step * (exact[split] - counts[split]))] += step
    order = iter(names)
    return {next(order): split for split, count in counts.items() for _ in range(count)}


def assign_splits(
    given: Sequence[tuple[str, str | None]], shares: Mapping[str, float], *, fill: bool, seed: int
) -> dict[str, str]:
    """Return the split of each subject, where the source's folders may define splits.

    Args:
        given: (subject, split of its folder or None) of each file.
        shares: split -> share, for splits that the folders do not define.
        fill: if the folders define some splits only, take the subjects of the others out of train.
    Raises:
        DataError: a subject in two splits, or files both inside and outside the splits' folders.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for subject, split in given:
        found[subject].add(split or "no split")
    in_several = [(subject, splits) for subject, splits in sorted(found.items()) if len(splits) > 1]
    if in_several:
        raise DataError(
            [Problem(f"subject {name}", " and ".join(sorted(splits)), "one split") for name, splits in in_several[:20]]
        )
    kept = {subject: splits.pop() for subject, splits in found.items()}
    present = set(kept.values())
    if present == {"no split"}:
        return split_subjects(list(kept), shares, seed=seed)
    if "no split" in present:
        outside = [subject for subject, split in kept.items() if split == "no split"]
        raise DataError.of(f"subject {outside[0]}", "files outside the folders of the splits", "all files inside them")
    missing = {split: shares[split] for split in SPLITS if split not in present and shares.get(split, 0) > 0}
    if fill and missing and "train" in present:
        train = [subject for subject, split in kept.items() if split == "train"]
        kept.update(split_subjects(train, {"train": shares.get("train", 0), **missing}, seed=seed))
    return kept
