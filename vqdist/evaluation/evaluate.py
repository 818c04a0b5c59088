"""The report of `vqdist evaluate`: metrics of a model, comparison of its samples with real slices, and figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.config.command_options import EvaluateOptions
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.figures import draw_rate_distortion, draw_sample_figures, draw_vqvae_figures
from vqdist.evaluation.inputs import EvaluationInputs, check_picture_inputs, read_inputs
from vqdist.evaluation.model_metrics import Evaluation, compare_models, evaluate_pixelcnn, evaluate_vqvae
from vqdist.evaluation.run_data import is_of_pictures
from vqdist.evaluation.samples.comparison import SampleReport, compare_samples
from vqdist.evaluation.samples.sample_table import list_samples
from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_from_any_rank, print_message
from vqdist.inference.reconstruction import reconstruct_pictures
from vqdist.inference.volume_reconstruction import is_volume, reconstruct_volume
from vqdist.inference.work_sharing import run_on_main
from vqdist.plotting.training_curves import draw_training_curves
from vqdist.runs.run_dir import RunDir

Report = dict[str, Any]  # JSON values


def evaluate(options: EvaluateOptions, ranks: Ranks) -> Report:
    """Evaluate a model on a split, or reconstruct pictures; return the report. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the options or of the inputs.
    """
    if conflicts := options.find_conflicts():
        raise ConfigError(conflicts)
    if options.pictures is None:
        return evaluate_model(read_inputs(options, ranks), ranks)
    check_picture_inputs(options, ranks)
    return evaluate_pictures(options, ranks)


def evaluate_pictures(options: EvaluateOptions, ranks: Ranks) -> Report:
    """Reconstruct pictures on rank 0 and return their mean metrics. Must be called by all ranks.

    Those inside the brain are None for a model that was trained on other pictures.
    """
    source, out = options.pictures, options.figure_folder
    assert source is not None, "the other case is evaluate_model"
    assert out is not None, "a conflict of the options"

    def reconstruct() -> Report:
        with reporting_storage_errors(out):
            reconstruct_source = reconstruct_volume if is_volume(source) else reconstruct_pictures
            report = reconstruct_source(options.run, source, out, device=ranks.device)
        if is_of_pictures(options):
            report["metrics"] |= {name: None for name in report["metrics"] if name.endswith("_brain")}
        return report

    return run_on_main(ranks, reconstruct)


def evaluate_model(inputs: EvaluationInputs, ranks: Ranks) -> Report:
    """Measure a model on a split, compare samples if there are any, and draw the figures.

    Must be called by all ranks.
    """
    if inputs.prior is None:
        evaluation = evaluate_vqvae(inputs.vqvae, inputs.split, ranks)
    else:
        evaluation = evaluate_pixelcnn(inputs.prior, inputs.dataset, inputs.split, ranks)
    report, sample_report = {**evaluation.report, "model": inputs.fingerprint}, None
    if inputs.beside:
        others = {name: evaluate_vqvae(model, inputs.split, ranks) for name, model in inputs.beside.items()}
        report["beside"] = {name: other.report["metrics"] for name, other in others.items()}
        subjects = inputs.split.subjects()
        report["differences"] = {
            name: compare_models(evaluation.values, other.values, subjects) for name, other in others.items()
        }
    if (samples := inputs.samples) is not None and inputs.real_slices is not None:
        features = inputs.options.features
        sample_report = compare_samples(
            samples, *inputs.real_slices, vqvae=inputs.vqvae, ranks=ranks, features=features
        )
        report["realism"] = sample_report.report
        report["sample_table"] = run_on_main(ranks, lambda: list_samples(samples, inputs.prior, ranks))
    out = inputs.options.figure_folder
    if out is not None:
        print_message("evaluate: drawing the figures ...")
        report["figures"] = run_on_main(ranks, lambda: draw_figures(inputs, evaluation, report, sample_report, out))
    elif inputs.options.figures is not None:
        run = show_model_name(inputs.options.run)
        print_message(f"no figures: {run} is a saved model and not a run; --figures FOLDER draws them")
    return report


def draw_figures(
    inputs: EvaluationInputs,
    evaluation: Evaluation,
    report: Mapping[str, Any],
    sample_report: SampleReport | None,
    out: Path,
) -> list[str]:
    """Draw all figures of a report and return their paths. An error of the folder is reported, not raised."""
    run, split = inputs.options.run, inputs.split
    try:
        metrics_file = RunDir(run).metrics
        paths = [draw_training_curves(metrics_file, out / "losses.png")] if metrics_file.is_file() else []
        if inputs.prior is None:
            paths += draw_vqvae_figures(inputs.vqvae, evaluation, split, out)
        if inputs.beside:
            paths.append(draw_rate_distortion({run.name: report["metrics"], **report["beside"]}, split.name, out))
        if sample_report is not None:
            paths += draw_sample_figures(sample_report, split.name, out)
    except OSError as error:
        print_from_any_rank(f"{out}: no figures drawn: {error}; --figures names another folder, or null")
        return []
    return list(map(str, paths))
