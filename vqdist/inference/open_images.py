"""Open the images for encode and evaluate: third-party shards are indexed as for the training of the model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.config.command_options import EncodeOptions, EvaluateOptions
from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.data.shards.shard_indexer import IndexSettings
from vqdist.data.shards.third_party import read_settings
from vqdist.foundation.errors import ConfigError
from vqdist.runs.run_dir import RunDir, read_run_config


def open_images(
    path: str | Path,
    options: EncodeOptions | EvaluateOptions,
    source: Mapping[str, Any] | None = None,
    *,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Open a dataset for the model of a run.

    Args:
        options: their image_key and on_error apply to third-party shards; where they are null, those of the run do.
        source: the `source` of an earlier index of the dataset, whose settings apply instead of those of the run.
        cache_dir: the cache folder; None: the user's cache folder.
    Raises:
        DataError, FetchError: as for `open_dataset`.
    """
    settings = _read_run_settings(options.run) if source is None else read_settings(source)
    image_key = settings.image_key if options.image_key is None else options.image_key
    skip = settings.skip_unusable if options.on_error is None else options.on_error == "skip"
    return open_dataset(path, cache_dir, image_key=image_key, skip_unusable=skip)


def _read_run_settings(run: Path) -> IndexSettings:
    """Return the settings of a run's data section; the defaults for a saved model without its run."""
    if not RunDir(run).config.is_file():
        return IndexSettings()
    try:
        data = read_run_config(run).get("data")
    except ConfigError:
        return IndexSettings()  # the problem is reported where the run is read
    image_key = data.get("image_key") if isinstance(data, dict) else None
    on_error = data.get("on_error") if isinstance(data, dict) else None
    return IndexSettings(image_key if isinstance(image_key, str) else None, on_error == "skip")
