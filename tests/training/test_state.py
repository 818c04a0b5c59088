"""The counters of a run, also those of checkpoints of earlier versions."""

from vqdist.training.state import TrainingProgress


def test_a_run_of_an_earlier_version_continues_to_choose_its_model_by_the_loss() -> None:
    """Its best value is one of the loss, which cannot be compared with image losses."""
    saved = {name: value for name, value in vars(TrainingProgress()).items() if name != "best_by"}
    progress = TrainingProgress(best_by="image_loss")
    progress.load(saved | {"best_loss": 0.25, "best_step": 40, "step": 50})
    assert (progress.best_by, progress.best_loss, progress.step) == ("loss", 0.25, 50)


def test_what_the_model_is_chosen_by_is_saved() -> None:
    progress = TrainingProgress()
    progress.load(vars(TrainingProgress(best_by="image_loss", best_loss=0.5)))
    assert (progress.best_by, progress.best_loss) == ("image_loss", 0.5)
