"""The card of a published model: README.md with data, training, configuration, figures, copies, membership and use."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

import vqdist
from vqdist.config.command_line import show_value
from vqdist.config.condition_key import NUMBERS, list_names
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.figure_text import format_figure
from vqdist.foundation.progress import count_noun
from vqdist.models.io import ModelFiles
from vqdist.publishing.earlier_card import NOT_MEASURED
from vqdist.publishing.publication import Publication
from vqdist.publishing.reports import TITLES, CopyCount, EvaluationReport, Figure

NOT_A_DEVICE = (
    "For research on generative models of images. This is no medical device: do not use the model, its images or its "
    "scores for a decision about a person. Do not try to identify anyone in the training data."
)
CITATION = """\
- vqdist {version}, MIT licence, for the software.
- van den Oord, Vinyals, Kavukcuoglu 2017, *Neural Discrete Representation Learning* (VQ-VAE).
- van den Oord et al. 2016, *Conditional Image Generation with PixelCNN Decoders*.
- The sources of the training data, as their terms ask for."""
_COPIES, _MEMBERSHIP = "- Near copies of training slices", "- Membership AUC"
MEANING_OF_MEMBERSHIP = "0.5: the bits per code do not reveal who was in the training data; 1: they reveal it always."
NOT_STATED = (
    "The publisher has not stated the training data, its licence and its terms (`--data-terms`). Ask before use."
)


def build_card(publication: Publication, *, name: str, data_terms: str | None, license: str | None) -> str:
    """Return the text of README.md.

    Args:
        name: under which load_model finds the model, such as hf://ORG/NAME.
        data_terms: the training data, its credits, licence and terms, in Markdown; None: as in the earlier card.
        license: of the model, as the hub names it; None: as in the earlier card.
    """
    sections = {
        "Use": describe_use(publication, name),
        "Intended use": NOT_A_DEVICE,
        "Training data": "\n\n".join(describe_training_data(publication, data_terms)),
        "Training": "\n\n".join(describe_training(publication)),
        "Configuration": "\n\n".join(describe_configuration(publication)),
        "Figures": "\n\n".join(list_figures(publication)) or NOT_MEASURED,
        "Copies and membership": "\n".join(describe_memory(publication)),
        "Citation": CITATION.format(version=vqdist.__version__),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"{build_header(publication, license)}\n# {publication.title}\n\n{describe_model(publication)}\n\n{body}\n"


def build_header(publication: Publication, license: str | None) -> str:
    """Return the metadata that the hub reads, as YAML between two lines of dashes."""
    values = {"library_name": "vqdist", "tags": ["vqdist", publication.files.card.kind, "vq-vae"]}
    values |= publication.earlier_card.license if license is None else {"license": license}
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---"


def describe_model(publication: Publication) -> str:
    """Return a paragraph about the kind of the model and its weights."""
    card = publication.files.card
    kinds = {
        "vqvae": "A VQ-VAE, which compresses an image to a grid of codes.",
        "pixelcnn": "A gated PixelCNN over the codes of a VQ-VAE, with that VQ-VAE in `vqvae/`.",
    }
    step = "" if card.step is None else f" Weights of step {card.step:,}."
    return f"{kinds[card.kind]}{step} Fingerprint `{card.fingerprint}`."


def describe_use(publication: Publication, name: str) -> str:
    """Return a command and a line of Python that use the model."""
    if publication.vqvae is None:
        command = f"vqdist encode --run {name} --data DATASET --out CODES"
    else:
        command = f"vqdist sample --prior {name} --num 16 --out samples"
    return f'    {command}\n\nIn Python: `vqdist.load_model("{name}")`.'


def describe_training_data(publication: Publication, terms: str | None) -> Iterator[str]:
    """Yield the terms of the training data, its size and its attributes; without terms, those of the earlier card."""
    earlier = publication.earlier_card.sections.get("Training data")
    if terms is None and earlier:
        yield earlier
        return
    yield terms or NOT_STATED
    yield from describe_dataset(publication.dataset)
    yield from describe_attributes(publication)


def describe_dataset(dataset: Manifest | None) -> Iterator[str]:
    """Yield a paragraph about the size of the dataset, and no paths of the publisher."""
    if dataset is None:
        return
    source: Mapping[str, Any] = dataset.source.get("images_source") or dataset.source
    layout = f"Layout `{source['layout']}`. " if "layout" in source else ""
    size = " x ".join(map(str, dataset.image_size))
    noun = "map" if dataset.kind == "codes" else "slice"
    splits = [
        f"{name} {count_noun(split.samples, noun)} of {count_noun(split.subjects, 'subject')}"
        for name, split in dataset.splits.items()
    ]
    yield f"{layout}{size} pixels, {dataset.channels} channel{'s' * (dataset.channels > 1)}: {'; '.join(splits)}."


def describe_attributes(publication: Publication) -> Iterator[str]:
    """Yield a paragraph about the attributes of the training subjects that the files of the model contain."""
    data = publication.files.card.data
    if data.attributes:
        listed = "; ".join(f"`{name}`: {found.describe()}" for name, found in data.attributes.items())
        yield f"Attributes: {listed}. `config.json` lists the combinations that the training subjects have."


def describe_training(publication: Publication) -> Iterator[str]:
    """Yield what the files of each model record of its training; without the dataset, as in the earlier card."""
    models = [found for found in (publication.files, publication.vqvae) if found is not None]
    earlier = publication.earlier_card.sections.get("Training", "")
    if publication.dataset is None and all(found.card.fingerprint in earlier for found in models):
        yield earlier
        return
    yield from map(describe_steps, models)
    source = {} if publication.dataset is None else publication.dataset.source
    if publication.vqvae is not None and (images := source.get("images_fingerprint")):
        same = images == publication.vqvae.card.data.data_fingerprint
        yield f"The PixelCNN was trained on codes of {'the same images' if same else 'other images than the VQ-VAE'}."


def describe_steps(files: ModelFiles) -> str:
    """Return the step of the weights of a model, its data and the metrics that training measured at that step."""
    card = files.card
    facts = [f"{TITLES[card.kind]}, fingerprint `{card.fingerprint}`"]
    if card.step is not None:
        facts.append(f"weights of step {card.step:,}")
    if card.data.data_fingerprint is not None:
        what = "codes of images" if card.kind == "pixelcnn" else "images"
        size = "" if card.data.image_size is None else f" of {' x '.join(map(str, card.data.image_size))} pixels"
        facts.append(f"trained on {what}{size} (dataset fingerprint `{card.data.data_fingerprint}`)")
    metrics = ", ".join(f"`{name}` {format_figure(value)}" for name, value in card.metrics.items())
    return f"{', '.join(facts)}.{f' On the validate split at that step: {metrics}.' if metrics else ''}"


def describe_configuration(publication: Publication) -> Iterator[str]:
    """Yield the architecture of each model, and the settings of the run; without the run, as in the earlier card."""
    earlier = publication.earlier_card.sections.get("Configuration")
    if earlier and not publication.settings:
        yield earlier
        return
    for files in filter(None, (publication.files, publication.vqvae)):
        unused = {"attributes"}  # they are described with the data
        if files.card.kind == "pixelcnn":
            condition = files.card.model.get("condition", "none")
            names = list_names(condition if isinstance(condition, str) else tuple(condition))
            unused |= {f"num_{name}s" for name in NUMBERS if name not in names}
        arguments = [(key, value) for key, value in files.card.model.items() if key not in unused]
        values = ", ".join(f"`{key}` {show_value(value)}" for key, value in arguments)
        yield f"{TITLES[files.card.kind]}: {values}."
    for section, keys in publication.settings.items():
        if section != "model" and keys:
            yield f"`{section}`: " + ", ".join(f"`{key}` {show_value(value)}" for key, value in keys.items()) + "."


def list_figures(publication: Publication) -> list[str]:
    """Return the tables of the reports, and those of the earlier card for models without a report."""
    kept = publication.earlier_card.list_tables(publication.tasks - publication.reported_tasks)
    return [*map(describe_figures, publication.reports), *kept]


def describe_figures(report: EvaluationReport) -> str:
    """Return a table of the metrics of a report with their intervals."""
    counts = f"{count_noun(report.samples, 'sample')} of {count_noun(report.subjects, 'subject')}"
    rows = [
        f"| `{name}` | {format_figure(figure.mean)} | {_show_interval(figure)} |"
        for name, figure in report.metrics.items()
    ]
    heading = f"{TITLES[report.task]}, split `{report.split}`, {counts}; intervals are 95 %, over subjects."
    return "\n".join([heading, "", "| metric | mean | interval |", "|---|---|---|", *rows])


def describe_memory(publication: Publication) -> Iterator[str]:
    """Yield the search for copies and the membership AUC as a list."""
    if publication.vqvae is None:
        yield "Not measured: both are figures of a PixelCNN."
        return
    earlier = publication.earlier_card
    if (kept := earlier.sections.get("Copies and membership")) and "pixelcnn" not in publication.reported_tasks:
        yield kept
        return
    copies = [_describe_copies(report.copies) for report in publication.reports if report.copies is not None]
    aucs = [(report, auc) for report in publication.reports if (auc := report.metrics.get("membership_auc"))]
    yield from copies or earlier.list_lines(_COPIES) or [f"- Copies: {NOT_MEASURED}"]
    memberships = [f"{_MEMBERSHIP} on `{report.split}`: {_show(auc)}. {MEANING_OF_MEMBERSHIP}" for report, auc in aucs]
    yield from memberships or earlier.list_lines(_MEMBERSHIP) or [f"- Membership: {NOT_MEASURED}"]


def _describe_copies(found: CopyCount) -> str:
    line = f"{_COPIES}: {found.samples} of {found.samples_of:,} samples"
    line += f" ({found.real} of {found.real_of:,} real slices of the split)."
    if found.largest is not None and found.real_largest is not None:
        line += f" The greatest similarity to a training slice is {format_figure(found.largest)} for the samples and"
        line += f" {format_figure(found.real_largest)} for the real slices, at most 1."
    return line


def _show(figure: Figure) -> str:
    interval = _show_interval(figure)
    return f"{format_figure(figure.mean)} ({interval})" if interval else format_figure(figure.mean)


def _show_interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{format_figure(figure.low)} to {format_figure(figure.high)}"
