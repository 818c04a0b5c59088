"""Trainings: CPU against GPU, resume, precisions with both optimizers, compilation, and the speed of the loader."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from checks import Checker
from commands import Training, train

AT_ONCE = 4
MAX_LOSS_DIFFERENCE = 1e-2  # relative, between CPU and GPU
STAGES = ("vqvae", "pixelcnn")


def train_both_stages(checker: Checker) -> None:
    """CPU against GPU, resume, precisions with both optimizers, compilation."""
    steps, images, codes = checker.steps, checker.data / "images", checker.data / "codes"
    device = {"run.device": checker.device, "train.max_steps": steps}
    exact = device | {"run.deterministic": "true"}
    half = exact | {"train.stop_at_step": steps // 2}
    precisions = ("bf16", "fp16") if checker.on_gpu else ("bf16",)
    optimizers = ("muon",) if checker.small else ("adam", "muon")
    jobs: dict[str, tuple[str, Path, list[dict[str, object]]]] = {}
    for stage, data in (("vqvae", images), ("pixelcnn", codes)):
        config = f"{stage}_debug"
        jobs[f"{stage}-cpu"] = config, data, [device | {"run.device": "cpu"}]
        jobs[f"{stage}-exact"] = config, data, [exact]
        jobs[f"{stage}-cut"] = config, data, [half, exact]
    for precision in precisions:
        for name in optimizers:
            keys = device | {"train.precision": precision, "optim.name": name}
            jobs[f"{name}-{precision}"] = "vqvae_debug", images, [keys]
    if not checker.small:
        jobs["compiled"] = "vqvae_debug", images, [device | {"train.compile": "true"}]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        queued: dict[str, Future[Training]] = {
            name: pool.submit(train, checker, name, config, data, *attempts)
            for name, (config, data, attempts) in jobs.items()
        }
    runs = {name: future.result() for name, future in queued.items()}
    for stage in STAGES:
        _compare_losses(checker, f"{stage}, deterministic", runs[f"{stage}-exact"], runs[f"{stage}-cpu"])
        runs[f"{stage}-cut"].require(75, 0)
        same = runs[f"{stage}-cut"].digest == runs[f"{stage}-exact"].digest
        checker.add(f"{stage}: stopped and resumed", "same bits" if same else "other bits", "same bits", same)
    for name, run in runs.items():
        if not name.startswith(STAGES):
            _check_that_the_loss_falls(checker, name, run)


def _compare_losses(checker: Checker, name: str, run: Training, reference: Training) -> None:
    run.require(0)
    reference.require(0)
    difference = abs(run.loss - reference.loss) / abs(reference.loss)
    found = f"{run.loss:.5f}, CPU {reference.loss:.5f}, {difference:.1e} apart"
    passed = difference <= MAX_LOSS_DIFFERENCE
    checker.add(f"{name}: loss after {checker.steps} steps", found, f"{MAX_LOSS_DIFFERENCE:.0e}", passed)


def _check_that_the_loss_falls(checker: Checker, name: str, run: Training) -> None:
    run.require(0)
    lines = run.read_train_lines()
    first, last = lines[0]["loss"], lines[-1]["loss"]
    found = f"{first:.4f} to {last:.4f}, {lines[-1]['bad_steps']} bad steps"
    checker.add(f"{name}: loss", found, "falls", last < first)


def feed_the_device(checker: Checker) -> None:
    """Speed of the loader at small and large batches."""
    config = "vqvae_debug" if checker.small else "vqvae_oasis"
    keys = {"run.device": checker.device, "data.num_workers": 0 if checker.small else 8}
    keys |= {"train.log_every": 2} if checker.small else {"train.log_every": 20, "data.crop": 96}
    for batch in (4,) if checker.small else (16, 256):
        for cache in ("memory",) if checker.small else ("none", "memory"):
            length = {"train.max_steps": 6 if checker.small else 60}
            own = {"data.global_batch_size": batch, "data.cache": cache}
            run = train(checker, f"feed-{batch}-{cache}", config, checker.data / "images", keys | length | own)
            run.require(0)
            perf = run.read_train_lines()[-1]["perf"]
            share = perf["data_wait_s"] * perf["samples_per_s"] / batch / keys["train.log_every"]
            found = f"{perf['samples_per_s']:,.0f} samples/s, {share:.0%} of the time waiting for data"
            checker.add(f"{config}, batch {batch}, cache {cache}", found)
