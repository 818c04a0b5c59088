"""Collect what is published of a model: its files, the configuration of its run, its dataset and its reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqdist.config.publish_options import PublishOptions
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.foundation.errors import ConfigError, DataError, collect
from vqdist.inference.changed_data import choose_data_path
from vqdist.inference.saved_models import build_model, read_vqvae_of
from vqdist.models.half_precision import to_half_precision
from vqdist.models.io import VQVAE_FOLDER, ModelFiles, read_model_files
from vqdist.publishing.earlier_card import EarlierCard, read_earlier_card
from vqdist.publishing.reports import EvaluationReport, read_report
from vqdist.runs.run_dir import RunDir, read_run_config

# Sections of config.yaml that the card shows. The others name folders and accounts of the publisher.
SHOWN_SECTIONS = ("model", "optim", "train")
SHOWN_DATA_KEYS = ("global_batch_size", "order", "window_shards", "mirror", "crop")


@dataclass(frozen=True)
class Publication:
    """The published model and the facts for its card.

    Attributes:
        title: name of the model.
        files: of the model.
        vqvae: of the VQ-VAE that is saved with a PixelCNN; None for a VQ-VAE.
        settings: section -> key -> value of the run's configuration; empty for a model without its run.
        dataset: that the run was trained on; None if it is not there any more.
        reports: of `vqdist evaluate`.
        earlier_card: that the model has already; empty without one.
        warnings: about the earlier card.
    """

    title: str
    files: ModelFiles
    vqvae: ModelFiles | None
    settings: Mapping[str, Mapping[str, Any]]
    dataset: Manifest | None
    reports: tuple[EvaluationReport, ...]
    earlier_card: EarlierCard = field(default_factory=EarlierCard)
    warnings: tuple[str, ...] = ()

    @property
    def tasks(self) -> set[str]:
        """The tasks of the published models."""
        return {found.card.kind for found in (self.files, self.vqvae) if found is not None}

    @property
    def reported_tasks(self) -> set[str]:
        """The tasks of the models that there is a report of."""
        return {report.task for report in self.reports}

    @property
    def contents(self) -> dict[str, bytes]:
        """Name and bytes of each file of the model."""
        inner = {} if self.vqvae is None else self.vqvae.contents
        return self.files.contents | {f"{VQVAE_FOLDER}/{name}": content for name, content in inner.items()}

    def list_kept(self, *, data_terms: str | None, license: str | None) -> list[str]:
        """Return what a card of these facts keeps of the earlier card."""
        earlier = self.earlier_card
        kept = {
            "licence": license is None and earlier.license,
            "data and terms": data_terms is None and "Training data" in earlier.sections,
            "configuration": not self.settings and "Configuration" in earlier.sections,
            "figures": earlier.list_tables(self.tasks - self.reported_tasks),
        }
        return [name for name, is_kept in kept.items() if is_kept]


def collect_publication(options: PublishOptions) -> Publication:
    """Read the model, its run and its reports.

    Raises:
        ConfigError: every problem of the model and of the reports.
    """
    files = read_model_files(options.run)
    vqvae = read_vqvae_of(files) if files.card.kind == "pixelcnn" else None
    models = [files] if vqvae is None else [files, vqvae]
    fingerprints = {found.card.kind: found.card.fingerprint for found in models}
    checks = [lambda path=path: read_report(path, fingerprints) for path in options.report]
    _, (earlier, warnings), *reports = collect(
        lambda: [build_model(found) for found in models], lambda: read_earlier_card(files), *checks
    )
    settings, dataset = _read_run(options.run)
    title = options.hub.repository if options.hub is not None else Path(options.target).resolve().name
    published = files if options.weights == "as-is" else to_half_precision(files)
    return Publication(title, published, vqvae, settings, dataset, tuple(reports), earlier, tuple(warnings))


def _read_run(run: Path) -> tuple[dict[str, dict[str, Any]], Manifest | None]:
    """Return the shown settings and the dataset of a run; nothing for a model without its run."""
    if not RunDir(run).config.is_file():
        return {}, None
    config = read_run_config(run)
    data = config.get("data") or {}
    settings = {name: config[name] for name in SHOWN_SECTIONS if isinstance(config.get(name), dict)}
    settings["data"] = {name: data[name] for name in SHOWN_DATA_KEYS if name in data}
    return settings, _find_dataset(Path(choose_data_path(data, run)))


def _find_dataset(path: Path) -> Manifest | None:
    if not (path / MANIFEST).is_file():
        return None
    try:
        return load_manifest(path)
    except (DataError, ConfigError):
        return None
