"""One process's part in a run, from joining the ranks to the last word."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.data.cache_dir import resolve_cache_dir
from vqdist.data.open import locate_dataset
from vqdist.data.shards.build import make_demo
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.distributed.process_group import Ranks, name_faults, start_ranks
from vqdist.distributed.stop_requests import StopRequest
from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.command import print_from_any_rank
from vqdist.foundation.errors import ConfigError, OwnershipError, VqdistError
from vqdist.plotting.training_curves import draw_training_curves
from vqdist.runs.run_dir import RunDir, is_over, read_status
from vqdist.tracking.lineage import log_inputs, log_model
from vqdist.tracking.tracker import Tracker, start_tracker
from vqdist.training.build import agree_on_precision, build_session, demo_folder, describe_data, load_companion
from vqdist.training.checks import data_problems
from vqdist.training.data_pipeline import build_pipeline
from vqdist.training.loop import Run, train
from vqdist.training.precision import find_slow_precision
from vqdist.training.recorder import Recorder
from vqdist.training.state import Session, TrainingProgress, resume
from vqdist.training.tasks.tasks import get_task
from vqdist.training.terminal import TrainingTerminal

STOPPED = 75


@name_faults()
def run(config: RunConfig, stop: StopRequest) -> int:
    """Train one run, as one rank of it.

    Returns:
        The exit code: 0 finished, 75 stopped with a checkpoint.
    Raises:
        StalledError: another rank or a loader worker died or hung.
    Collective: every rank.
    """
    ranks = start_ranks(config.run.device, timeout_s=config.run.timeout_s)
    if ranks.broadcast_object(is_over(config)):
        if ranks.is_main:
            print_from_any_rank(f"{config.run_dir}: finished before, nothing to do")
        return 0
    path, manifest = _open_data(config, ranks)
    config = agree_on_precision(config, ranks)
    if ranks.is_main and (slow := find_slow_precision(config.train.precision, ranks.device)):
        print_from_any_rank(f"notice: {slow}; a run with --train.precision fp32 takes less time here")
    with reporting_storage_errors(config.run_dir):
        token = RunDir.claim(config.run_dir).token if ranks.is_main else ""
    run_dir = RunDir(config.run_dir, ranks.broadcast_object(token))
    return _train(config, path, manifest, ranks, run_dir, stop)


def _train(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks, run_dir: RunDir, stop: StopRequest) -> int:
    with _last_word(config, ranks, run_dir) as ending, ExitStack() as parts:
        companion, companion_dir = load_companion(path, manifest, ranks.device)
        session = build_session(config, get_task(config.task), manifest, ranks, companion)
        resume(session, run_dir)
        ending.session = session
        ending.views = tracker, terminal = _begin(config, session.progress, path, manifest, ranks, run_dir)
        feed = parts.enter_context(closing(build_pipeline(config, path, manifest, ranks, run_dir.token)))
        with reporting_storage_errors(run_dir.path):
            recorder = parts.enter_context(closing(Recorder(session, run_dir, tracker, terminal)))
        started = Run(
            session=session,
            feed=feed,
            recorder=recorder,
            run_dir=run_dir,
            stop=stop,
            companion=companion,
            companion_dir=companion_dir,
            extra=describe_data(manifest),
            saved_at=time.monotonic(),
        )
        ending.state = train(started)
        ending.code = 0 if ending.state == "finished" else STOPPED
    if ending.code == STOPPED:
        # A launcher takes the first 75 for a failure, and gives the others 30 s: rank 0 must be done by then.
        ranks.barrier()
    return ending.code


@dataclass
class Ending:
    """How a start ends.

    Attributes:
        session: None before it stands where the run goes on.
        views: the views of the run's record; None before they are open.
    """

    state: str = "failed"
    code: int = 1
    session: Session | None = None
    views: tuple[Tracker, TrainingTerminal] | None = None


@contextmanager
def _last_word(config: RunConfig, ranks: Ranks, run_dir: RunDir) -> Iterator[Ending]:
    """Let rank 0 tell how a start ended, whatever ended it."""
    ending = Ending()
    try:
        yield ending
    except VqdistError as error:
        ending.code = error.exit_code
        raise
    finally:
        if ranks.is_main:
            _end(ending, config, run_dir)


def _open_data(config: RunConfig, ranks: Ranks) -> tuple[str, Manifest]:
    """Return the data set's folder and manifest; the demo's is made by rank 0 where it is not there."""
    path = config.data.path
    if path is None:
        path = str(demo_folder(config))
        if ranks.is_main and not (Path(path) / MANIFEST).exists():
            with reporting_storage_errors(Path(path)):
                make_demo(Path(path))
        ranks.barrier()
        if problems := data_problems(config):
            raise ConfigError(problems)
    folder = locate_dataset(path, resolve_cache_dir(config.data.cache_dir))
    return str(folder), load_manifest(folder)


def _begin(
    config: RunConfig, progress: TrainingProgress, path: str, manifest: Manifest, ranks: Ranks, run_dir: RunDir
) -> tuple[Tracker, TrainingTerminal]:
    """Cut the record back to where the run goes on, say that it runs, and open the views of it."""
    step = progress.step
    if ranks.is_main:
        with reporting_storage_errors(run_dir.path):
            run_dir.cut_records(step, eval_due=progress.eval_due)
            run_dir.write_config(dump_yaml(config))
            run_dir.write_status("running", step)
    ranks.barrier()
    tracker = start_tracker(
        run_dir.path,
        config.tracking,
        run_name=config.run_dir.name,
        config=config.model_dump(mode="json"),
        job_type=config.task,
        is_main=ranks.is_main,
        resumed_step=step,
    )
    log_inputs(tracker, path, manifest)
    last_step = min(config.train.max_steps, config.train.stop_at_step or config.train.max_steps)
    terminal = TrainingTerminal(
        run_dir.path,
        task=config.task,
        data_path=config.data.path or path,
        first_step=step,
        last_step=last_step,
        shown=ranks.is_main,
    )
    return tracker, terminal


def _end(ending: Ending, config: RunConfig, run_dir: RunDir) -> None:
    """Write the last word, unless a newer start owns the directory."""
    before = int(read_status(run_dir.path).get("step", 0))
    progress = ending.session.progress if ending.session else TrainingProgress(step=before)
    tracker, terminal = ending.views or (None, None)
    try:
        run_dir.write_status(ending.state, progress.step, ended_early=progress.ended_early)
        if ending.state in {"stopped", "finished"}:
            (run_dir.path / "STOP").unlink(missing_ok=True)
        if ending.state == "finished" and tracker:
            _draw_curves(run_dir.path, progress.step, tracker)
    except (OwnershipError, OSError) as error:
        print_from_any_rank(f"error: {error}")
    if terminal:
        terminal.close(ending.state)
    if tracker:
        if ending.state == "finished":
            log_model(tracker, run_dir.path, config.task)
        tracker.finish(ending.state, ending.code)


def _draw_curves(run_dir: Path, step: int, tracker: Tracker) -> None:
    """Draw the run's losses; what keeps it from being drawn is said and changes nothing."""
    try:
        drawn = draw_training_curves(run_dir / "metrics.jsonl", run_dir / "figures" / "losses.png")
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        print_from_any_rank(f"{run_dir.name}: no curves drawn: {error}")
        return
    tracker.log_pictures(step, {"losses": drawn})
