"""The report of `vqdist evaluate`: metrics of a model, comparison of its samples with real slices, and figures."""

from collections.abc import Mapping
from typing import Any

from vqdist.config.command_options import EvaluateOptions
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.figures import draw_rate_distortion, draw_run_figures, draw_sample_figures, draw_vqvae_figures
from vqdist.evaluation.inputs import EvaluationInputs, PictureInputs, read_inputs, read_picture_inputs
from vqdist.evaluation.model_metrics import Evaluation, evaluate_pixelcnn, evaluate_vqvae
from vqdist.evaluation.samples.report import SampleReport, compare_samples
from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.inference.reconstruction import reconstruct_files
from vqdist.inference.work_sharing import run_on_main

Report = dict[str, Any]  # JSON values


def evaluate(options: EvaluateOptions, ranks: Ranks) -> Report:
    """Evaluate a model on a split, or reconstruct pictures; return the report. Collective: all ranks.

    Raises:
        ConfigError: every problem of the options or of the inputs.
    """
    if conflicts := options.find_conflicts():
        raise ConfigError(conflicts)
    if options.pictures is None:
        return evaluate_model(read_inputs(options, ranks), ranks)
    return evaluate_pictures(read_picture_inputs(options, ranks), ranks)


def evaluate_pictures(inputs: PictureInputs, ranks: Ranks) -> Report:
    """Reconstruct pictures on rank 0 and return their mean metrics. Collective: all ranks."""

    def reconstruct() -> Report:
        with reporting_storage_errors(inputs.out):
            return reconstruct_files(inputs.files, inputs.paths, inputs.source, inputs.out, device=ranks.device)

    return run_on_main(ranks, reconstruct)


def evaluate_model(inputs: EvaluationInputs, ranks: Ranks) -> Report:
    """Measure a model on a split, compare samples if there are any, and draw the figures. Collective: all ranks."""
    if inputs.prior is None:
        evaluation = evaluate_vqvae(inputs.vqvae, inputs.split, batch_size=inputs.batch_size, ranks=ranks)
    else:
        evaluation = evaluate_pixelcnn(
            inputs.prior, inputs.dataset, inputs.split, batch_size=inputs.batch_size, ranks=ranks
        )
    report, sample_report = dict(evaluation.report), None
    if inputs.beside:
        report["beside"] = {
            name: evaluate_vqvae(model, inputs.split, batch_size=inputs.batch_size, ranks=ranks).report["metrics"]
            for name, model in inputs.beside.items()
        }
    if inputs.samples is not None and inputs.images is not None:
        sample_report = compare_samples(
            inputs.samples,
            inputs.images,
            split=inputs.split.name,
            vqvae=inputs.vqvae,
            batch_size=inputs.batch_size,
            ranks=ranks,
        )
        report["realism"] = sample_report.report
    if inputs.figures is not None:
        report["figures"] = run_on_main(ranks, lambda: draw_figures(inputs, evaluation, report, sample_report))
    return report


def draw_figures(
    inputs: EvaluationInputs, evaluation: Evaluation, report: Mapping[str, Any], sample_report: SampleReport | None
) -> list[str]:
    """Draw all figures of a report and return their paths; an error of the folder is reported, not raised."""
    assert inputs.figures is not None, "the caller has checked it"
    out, split = inputs.figures, inputs.split
    try:
        paths = draw_run_figures(inputs.run, out)
        if inputs.prior is None:
            paths += draw_vqvae_figures(inputs.vqvae, evaluation, split, out)
        if inputs.beside:
            metrics = {inputs.run.name: report["metrics"], **report["beside"]}
            paths.append(draw_rate_distortion(metrics, split.name, out))
        if sample_report is not None:
            paths += draw_sample_figures(sample_report, split.name, out)
    except OSError as error:
        print_from_any_rank(f"{out}: no figures drawn: {error}; --figures names another folder, or null")
        return []
    return list(map(str, paths))
