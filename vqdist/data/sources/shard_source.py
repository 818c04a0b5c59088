"""The source that the options of `vqdist shard` name: its files with their attributes, splits and doubts."""

from pathlib import Path

from vqdist.config.shard_options import ShardOptions
from vqdist.data.shards.manifest import SPLITS
from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.source import Source
from vqdist.data.sources.splits import assign_splits, find_untrained_classes
from vqdist.data.sources.subject_table import TableOptions, attach_oasis_files, attach_table
from vqdist.data.sources.subjects import SubjectOptions
from vqdist.data.sources.tar_source import find_source_tars, open_tars
from vqdist.foundation.errors import DataError, Problem, UserError


def open_shard_source(options: ShardOptions) -> Source:
    """Open SOURCE: tars, or else a folder or the demo.

    Raises:
        DataError: no such source, no file of the layout in it, or files without a subject.
    """
    channels = None if options.channels == "auto" else int(options.channels)
    subjects = SubjectOptions(options.subject_pattern, options.subject_from)
    if tars := find_source_tars(options.source, options.layout):
        if options.grey_range != ("auto",):
            expected = "auto: only the pictures of a folder have a range"
            raise DataError.of("--grey-range", f"{' '.join(options.grey_range)}, with tars as SOURCE", expected)
        skip = options.on_error == "skip"
        return open_tars(
            *tars,
            image_size=options.image_size,
            channels=channels,
            include=options.include,
            subjects=subjects,
            skip_unusable=skip,
        )
    return open_source(
        options.source,
        layout=options.layout,
        image_size=options.image_size,
        channels=channels,
        num_slices=options.num_slices,
        num_subjects=options.num_subjects,
        seed=options.seed,
        include=options.include,
        subjects=subjects,
        grey_range=options.grey_limits,
    )


def attach_attributes(source: Source, options: ShardOptions) -> Source:
    """Return a source with the attributes of --table, or of the files of OASIS-1, if there are any.

    Raises:
        DataError: a table that cannot be read, or that does not fit the subjects.
    """
    if options.table is not None:
        return attach_table(source, TableOptions(options.table, options.table_key, options.columns))
    return attach_oasis_files(source, Path(options.source)) if source.layout == "oasis1" else source


def split_source(source: Source, options: ShardOptions) -> dict[str, str]:
    """Return the split of each subject.

    Raises:
        DataError: fewer subjects than splits, or a subject in two of them.
    """
    shares = dict(zip(SPLITS, options.shares, strict=True))
    given = [(file.subject, file.split) for file in source.files]
    return assign_splits(given, shares, fill="split" in options.model_fields_set, seed=options.seed)


def find_doubts(source: Source, splits: dict[str, str]) -> list[Problem]:
    """Return the signs that the source was misunderstood; --strict refuses a source with one."""
    labelled = [(file.label, splits[file.subject]) for file in source.files]
    return [*source.doubts, *find_untrained_classes(labelled, source.class_names)]


def find_source_problems(options: ShardOptions) -> list[Problem]:
    """Return why `vqdist shard` would refuse SOURCE; no picture is decoded."""
    try:
        source = attach_attributes(open_shard_source(options), options)
        doubts = find_doubts(source, split_source(source, options))
    except UserError as error:
        return error.problems
    return doubts if options.strict else []
