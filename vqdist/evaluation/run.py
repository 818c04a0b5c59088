"""What `vqdist.evaluate` does with its options: the report of a model, of its samples, and their figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.open import open_dataset
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.figures import illustrate_rates, illustrate_run, illustrate_samples, illustrate_vqvae
from vqdist.evaluation.model_metrics import Evaluation, evaluate_pixelcnn, evaluate_vqvae, require_kind
from vqdist.evaluation.samples.report import judge_samples
from vqdist.evaluation.samples.sample_folder import SampleFolder, find_samples
from vqdist.foundation.atomic_files import reporting_storage_errors, write_access_problems
from vqdist.foundation.errors import Problem, UserError, collect
from vqdist.foundation.progress import print_from_any_rank
from vqdist.inference.batches import on_main
from vqdist.inference.reconstruction import find_pictures, reconstruct_found
from vqdist.models.io import ModelFiles, build_model, fingerprint_of, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

DrawFigures = Callable[[], list[Path]]


def show_pictures(options: EvaluateOptions, ranks: Ranks, problems: Sequence[Problem] = ()) -> dict[str, Any]:
    """Reconstruct a user's own pictures, on rank 0. Collective: all ranks."""

    def reconstruct() -> dict[str, Any]:
        files, paths = collect(
            lambda: read_model_files(options.run, kind="vqvae"),
            lambda: find_pictures(options.pictures),
            problems=[*problems, *find_problems(options)],
        )
        with reporting_storage_errors(_folder(options)):
            return reconstruct_found(files, paths, options.pictures, _folder(options), device=ranks.device)

    return on_main(ranks, reconstruct)


def find_problems(options: EvaluateOptions) -> list[Problem]:
    """Return why what is asked for cannot be written; a run's own folder that takes no figures is no reason to end."""
    problems = [] if options.out is None else write_access_problems("--out", options.out, folder=False)
    if options.figure_folder is not None and (
        options.pictures is not None or _folder(options) != options.run / "figures"
    ):
        problems += write_access_problems("--figures", _folder(options), folder=True)
    return problems


def appraise(options: EvaluateOptions, ranks: Ranks, problems: Sequence[Problem] = ()) -> dict[str, Any]:
    """Measure a model on a split, and samples where they are given; draw the figures that are asked for.

    Args:
        options: of `vqdist.evaluate`.
    Returns:
        The report, as JSON values.
    Collective: all ranks.
    """
    (files, vqvae), (data, manifest), others, *_ = collect(
        lambda: on_main(ranks, lambda: read_models(options.run)),
        lambda: open_dataset(options.data),
        lambda: on_main(ranks, lambda: read_others(options.run, options.beside)),
        lambda: None if options.images is None else open_dataset(options.images),
        lambda: None if options.samples is None else find_samples(options.samples),
        problems=[*problems, *on_main(ranks, lambda: find_problems(options))],
    )
    model = build_model(files)
    if isinstance(model, PixelCNN):
        assert vqvae is not None, "read_models reads both"
        if others:
            raise UserError.of("--beside", "a PixelCNN as --run", "a VQ-VAE: rate and distortion are those of its maps")
        evaluation, draw = appraise_prior(model, fingerprint_of(vqvae), data, manifest, options, ranks)
        companion, images = build_model(vqvae), options.images or manifest.source.get("images")
    else:
        evaluation, draw = appraise_vqvae(model, data, manifest, options, ranks)
        companion, images = model, options.data
    drawings: list[DrawFigures] = [lambda: illustrate_run(options.run, _folder(options)), draw]
    report = evaluation.report
    if others:
        report["beside"], draw = appraise_others(others, report, data, manifest, options, ranks)
        drawings.append(draw)
    if options.samples is not None:
        assert isinstance(companion, VQVAE)
        report["realism"], draw = appraise_samples(companion, images, options, ranks)
        drawings.append(draw)
    if options.figure_folder is not None:
        report["figures"] = on_main(ranks, lambda: draw_all(drawings, _folder(options)))
    return report


def draw_all(drawings: list[DrawFigures], out: Path) -> list[str]:
    """Draw figures and return where they are; a folder that takes none is said, and the report goes on without."""
    try:
        return [str(path) for draw in drawings for path in draw()]
    except OSError as error:
        print_from_any_rank(f"{out}: no figures drawn: {error}; --figures names another folder, or null")
        return []


def read_models(run: Path) -> tuple[ModelFiles, ModelFiles | None]:
    """Read a saved model, and of a PixelCNN the VQ-VAE that its codes came from."""
    files = read_model_files(run)
    if files.config["kind"] != "pixelcnn":
        return files, None
    return files, read_model_files(files.folder / "vqvae", kind="vqvae")


def appraise_vqvae(
    model: VQVAE, data: Path, manifest: Manifest, options: EvaluateOptions, ranks: Ranks
) -> tuple[Evaluation, DrawFigures]:
    """Measure a VQ-VAE; return also the function that draws its figures."""
    reading: dict[str, Any] = {"split": options.split, "ranks": ranks, "batch_size": options.batch_size}
    evaluation = evaluate_vqvae(model, data, manifest, **reading)

    def draw() -> list[Path]:
        return illustrate_vqvae(model, evaluation, data, manifest, split=options.split, out=_folder(options))

    return evaluation, draw


def appraise_prior(
    model: PixelCNN, origin: str, data: Path, manifest: Manifest, options: EvaluateOptions, ranks: Ranks
) -> tuple[Evaluation, DrawFigures]:
    """Measure a PixelCNN, whose codes came from the VQ-VAE of fingerprint `origin`; it has no figures of its own."""
    reading: dict[str, Any] = {"split": options.split, "ranks": ranks, "batch_size": options.batch_size}
    return evaluate_pixelcnn(model, data, manifest, vqvae_fingerprint=origin, **reading), lambda: []


def read_others(run: Path, others: list[Path]) -> dict[str, ModelFiles]:
    """Read more VQ-VAEs, by the names of their runs; those of one name are told apart by their paths."""
    names = [path.name for path in (run, *others)]
    return {
        path.name if names.count(path.name) == 1 else str(path): read_model_files(path, kind="vqvae") for path in others
    }


def appraise_others(
    others: dict[str, ModelFiles],
    report: dict[str, Any],
    data: Path,
    manifest: Manifest,
    options: EvaluateOptions,
    ranks: Ranks,
) -> tuple[dict[str, Any], DrawFigures]:
    """Measure more VQ-VAEs on the same split; return also the function that draws rate and distortion of all."""
    reading: dict[str, Any] = {"split": options.split, "ranks": ranks, "batch_size": options.batch_size}
    found: dict[str, Any] = {}
    for name, files in others.items():
        model = build_model(files)
        assert isinstance(model, VQVAE)
        found[name] = evaluate_vqvae(model, data, manifest, **reading).report["metrics"]

    def draw() -> list[Path]:
        return [
            illustrate_rates({options.run.name: report["metrics"], **found}, split=options.split, out=_folder(options))
        ]

    return found, draw


def appraise_samples(
    vqvae: VQVAE, images: str | Path | None, options: EvaluateOptions, ranks: Ranks
) -> tuple[dict[str, Any], DrawFigures]:
    """Hold samples against real slices; return also the function that draws the figures."""
    if images is None:
        raise UserError.of("--images", "none", "the data set of the real slices that the codes were made from")
    data, manifest = open_dataset(images)
    require_kind(data, manifest, "images", "samples are held against real slices")
    folder = SampleFolder.open(options.samples, manifest)
    reading: dict[str, Any] = {"split": options.split, "ranks": ranks, "batch_size": options.batch_size}
    realism = judge_samples(folder, data, vqvae=vqvae, **reading)
    return realism.report, lambda: illustrate_samples(realism, folder, data, split=options.split, out=_folder(options))


def _folder(options: EvaluateOptions) -> Path:
    assert options.figure_folder is not None
    return options.figure_folder
