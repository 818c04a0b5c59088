"""Train one run, as one rank of it: join the ranks, claim the run directory, resume, train, and record how it ended."""

from contextlib import ExitStack, closing

from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.data.open_dataset import Dataset
from vqdist.data.shards.build import make_demo
from vqdist.data.shards.manifest import MANIFEST
from vqdist.distributed.peer_watch import watching_peers
from vqdist.distributed.process_group import Ranks, init_process_group, raising_stalled_error
from vqdist.distributed.stop_requests import StopRequest
from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.command import reporting_at_once
from vqdist.foundation.errors import ConfigError, VqdistError
from vqdist.foundation.progress import print_message
from vqdist.foundation.run_status import read_status
from vqdist.runs.resume_checks import is_finished
from vqdist.runs.run_dir import RunDir
from vqdist.runs.takeover import describe_takeover
from vqdist.tracking.tracker import Tracker
from vqdist.training.attempt import Attempt
from vqdist.training.build import build_state
from vqdist.training.data_pipeline import build_pipeline
from vqdist.training.dataset_choices import choose_for_dataset, describe_choices
from vqdist.training.loop import Run, train
from vqdist.training.precision_support import find_slow_precision
from vqdist.training.preflight import check_data, demo_folder
from vqdist.training.recorder import Recorder
from vqdist.training.resolve import agree_on_precision, describe_length_change
from vqdist.training.start_line import describe_start
from vqdist.training.state import TrainingProgress, TrainingState, resume
from vqdist.training.tasks.task import Task
from vqdist.training.terminal import TrainingTerminal
from vqdist.training.wandb_artifacts import log_inputs

STOPPED = 75


@raising_stalled_error()
def run(config: RunConfig, task_type: type[Task], dataset: Dataset | None, stop: StopRequest) -> int:
    """Train one run.

    Args:
        config: resolved and checked.
        dataset: None for the synthetic dataset, which rank 0 makes if it is not there yet.
    Returns:
        The exit code: 0 finished, 75 stopped with a checkpoint.
    Raises:
        StalledError: another rank or a loader worker died or did not answer.
    Must be called by all ranks.
    """
    ranks = init_process_group(config.run.device, timeout_s=config.run.timeout_s)
    if ranks.broadcast_object(is_finished(config)):
        print_message(f"{config.run_dir}: finished before, nothing to do")
        return 0
    if ranks.is_main and (warnings := describe_length_change(config)):
        print_message("\n".join(warnings))
    dataset = dataset or _make_demo_dataset(config, task_type, ranks)
    if chosen := describe_choices(config, dataset.manifest):
        print_message(chosen)
    config = agree_on_precision(choose_for_dataset(config, dataset.manifest), ranks)
    if slow := find_slow_precision(config.train.precision, ranks.device):
        print_message(f"notice: {slow}; a run with --train.precision fp32 takes less time here")
    run_dir = _claim_run_dir(config, ranks)
    attempt = Attempt(ranks, run_dir, config.task, TrainingProgress(step=int(read_status(run_dir.path).get("step", 0))))
    outcome, code, reason = "failed", 1, None
    try:
        with ExitStack() as resources:
            outcome = _train(config, task_type, dataset, attempt, resources, stop)
        code = 0 if outcome == "finished" else STOPPED
    except Exception as error:
        code, reason = error.exit_code if isinstance(error, VqdistError) else 1, str(error) or type(error).__name__
        raise
    finally:
        attempt.close(outcome, code, reason)
    if code == STOPPED:
        # A launcher treats the first 75 as a failure and gives the other ranks 30 s: rank 0 must be done by then.
        ranks.barrier()
    return code


def _claim_run_dir(config: RunConfig, ranks: Ranks) -> RunDir:
    """Make rank 0 the owner of the run directory, and report what is there that a user may not expect.

    Must be called by all ranks.
    """
    path = config.run_dir
    if ranks.is_main and (warning := describe_takeover(path)):
        print_message(warning)
    with reporting_storage_errors(path):
        token = RunDir.claim(path).token if ranks.is_main else ""
    run_dir = RunDir(path, ranks.broadcast_object(token))
    if ranks.is_main and run_dir.stop_file.exists():
        print_message(f"{run_dir.stop_file}: found at the start; the run stops at once, run it again to continue")
    return run_dir


@reporting_at_once()
@raising_stalled_error()
def _train(
    config: RunConfig,
    task_type: type[Task],
    dataset: Dataset,
    attempt: Attempt,
    resources: ExitStack,
    stop: StopRequest,
) -> str:
    """Build the run, resume it and train it; return `finished` or `stopped`.

    Args:
        attempt: receives what has to be closed by the caller, and `resources` what has to be closed before that.
    Must be called by all ranks.
    """
    ranks, run_dir = attempt.ranks, attempt.run_dir
    with watching_peers(ranks, attempt.end):
        task = task_type(config, dataset.manifest, dataset.folder, ranks.device)
        state = build_state(config, task, ranks)
        resumed = resume(state, run_dir)
        attempt.progress = state.progress
        print_message("\n".join(describe_start(state, resumed=resumed)))
        _open_records(state, run_dir)
        attempt.tracker = _start_tracker(state, run_dir, dataset)
        attempt.terminal = _open_terminal(state, run_dir, dataset)
        pipeline = build_pipeline(config, str(dataset.folder), dataset.manifest, ranks, run_dir.token)
        resources.enter_context(closing(pipeline))
        with reporting_storage_errors(run_dir.path):
            recorder = resources.enter_context(closing(Recorder(state, run_dir, attempt.tracker, attempt.terminal)))
        return train(Run(state, pipeline, recorder, run_dir, stop))


def _make_demo_dataset(config: RunConfig, task: type[Task], ranks: Ranks) -> Dataset:
    """Make the synthetic dataset on rank 0, unless it is there, and check the run with it.

    Must be called by all ranks.
    """
    folder = demo_folder(config)
    if ranks.is_main and not (folder / MANIFEST).exists():
        with reporting_storage_errors(folder):
            make_demo(folder)
    ranks.barrier()
    problems, dataset = check_data(config, task)
    if problems or dataset is None:
        raise ConfigError(problems)
    return dataset


def _open_records(state: TrainingState, run_dir: RunDir) -> None:
    """Cut the records back to the step of the state, and write configuration and status.

    Must be called by all ranks.
    """
    progress = state.progress
    if state.ranks.is_main:
        with reporting_storage_errors(run_dir.path):
            run_dir.truncate_records(progress.step, eval_due=progress.eval_due)
            run_dir.write_config(dump_yaml(state.config))
            run_dir.write_status("running", progress.step)
    state.ranks.barrier()


def _start_tracker(state: TrainingState, run_dir: RunDir, dataset: Dataset) -> Tracker:
    config = state.config if state.ranks.is_main else None
    tracker = Tracker(run_dir, config, attributes=dataset.manifest.attributes)
    log_inputs(tracker, str(dataset.folder), dataset.manifest)
    return tracker


def _open_terminal(state: TrainingState, run_dir: RunDir, dataset: Dataset) -> TrainingTerminal:
    config = state.config
    return TrainingTerminal(
        run_dir.path,
        task=config.task,
        data_path=config.data.path or str(dataset.folder),
        first_step=state.progress.step,
        last_step=config.train.last_step,
        shown=state.ranks.is_main,
        has_validate=dataset.manifest.has_samples("validate"),
        draws_volumes=config.model.reads_previous,
        on_cpu=state.ranks.device.type == "cpu",
    )
