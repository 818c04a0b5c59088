"""Publish a trained model with a card: vqdist publish RUN hf://ORG/NAME, or a folder as the second argument."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vqdist.config.attributes import Attributes
from vqdist.config.command_line import parse_options
from vqdist.config.publish_options import PublishOptions
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_message

if TYPE_CHECKING:
    from vqdist.publishing.publication import Publication

DESCRIPTION = """Write a model and its card to a folder or to the Hugging Face hub.

The files are those of RUN/model: config.json, model.safetensors and, with a PixelCNN, vqvae/. The card, README.md,
describes data and terms, configuration, the figures of --report, copies, membership and the intended use. Of a model
that has a card already, such as a published one, licence, data and terms, configuration and figures are kept unless
--license, --data-terms and --report replace them. Every command that takes a run or a saved model takes
hf://ORG/NAME[@REVISION] too."""


def main(argv: Sequence[str]) -> None:
    """Run the command."""
    parsed = parse_options("publish", DESCRIPTION, PublishOptions, argv)
    options = parsed.options
    if options is None or parsed.problems:
        raise ConfigError(parsed.problems)

    from vqdist.models.hub import CARD
    from vqdist.publishing.card import build_card
    from vqdist.publishing.destinations import find_destination_problems, upload, write_to_folder
    from vqdist.publishing.publication import collect_publication

    (publication,) = collect(lambda: collect_publication(options), problems=find_destination_problems(options))
    name = options.target if options.hub is None else str(options.hub)
    # A folder is passed on: its path here means nothing to others.
    called = name if options.hub is not None else Path(options.target).resolve().name
    card = build_card(publication, name=called, data_terms=options.data_terms, license=options.license)
    contents = {CARD: card.encode(), **publication.contents}
    if kept := publication.list_kept(data_terms=options.data_terms, license=options.license):
        print_message(f"kept from the {CARD} of {show_model_name(options.run)}: {', '.join(kept)}")
    for doubt in [
        *publication.warnings,
        *find_gaps(options, publication),
        *find_personal_data(publication.files.card.data.attributes),
    ]:
        print_message(f"WARNING: {doubt}")
    revision = None
    if options.hub is None:
        write_to_folder(Path(options.target), contents, overwrite=options.overwrite)
    else:
        revision = upload(options.hub, contents, private=options.private)
    at = "" if revision is None else f"@{revision}"
    done = f"wrote the folder {name}" if options.hub is None else f"published {name}{at}"
    print_message(f"{done}; read its {CARD}, then `vqdist.load_model({name + at!r})` loads it")
    emit({"published": name, "revision": revision, "files": sorted(contents)})


def find_gaps(options: PublishOptions, publication: "Publication") -> list[str]:
    """Return what the card lacks, and the option that adds it."""
    from vqdist.publishing.card import NOT_STATED, list_figures

    gaps = []
    if options.data_terms is None and NOT_STATED in publication.earlier_card.sections.get("Training data", NOT_STATED):
        gaps.append("the card does not state the training data and its terms; --data-terms TEXT adds them")
    if not list_figures(publication):
        command = f"vqdist evaluate --run {show_model_name(options.run)}{choose_data_flag(publication)}"
        gaps.append(
            f"the card has no figures; `{command} --out report.json`, then --report report.json adds them, and copies "
            "and membership of a PixelCNN with --samples"
        )
    return gaps


def choose_data_flag(publication: "Publication") -> str:
    """Return the flag of evaluate for the dataset; empty for a run whose dataset is known."""
    if publication.dataset is not None:
        return ""
    return " --data IMAGES" if publication.vqvae is None else " --data CODES"


def find_personal_data(attributes: Attributes) -> list[str]:
    """Return what the files of the model say of the training subjects."""
    if not attributes:
        return []
    names = ", ".join(attributes)
    found = f"config.json lists the combinations of {names} that the training subjects have"
    return [f"{found}; publish it only if the terms of the data allow that"]


if __name__ == "__main__":
    sys.exit(run_command(main))
