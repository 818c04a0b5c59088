"""The charts of samples name what they cannot show."""

import pytest

from vqdist.evaluation.samples.charts import _draw_distances
from vqdist.plotting.figure import start_figure

MEASURED = {"mean": 0.1, "low": 0.0, "high": 0.2}
MISSING = {"mean": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("train", "reconstructions", "samples", "note"),
    [
        (MEASURED, MEASURED, MEASURED, ""),
        (MEASURED, MEASURED, MISSING, "samples: too few subjects"),
        (MISSING, MEASURED, MISSING, "train, samples: too few subjects"),
        (MISSING, MISSING, MISSING, "validate: too few subjects"),
    ],
)
def test_sets_of_too_few_subjects_are_named(train: dict, reconstructions: dict, samples: dict, note: str) -> None:
    _, axes = start_figure(1, 1, width=4, height=3)
    distances = {"train_test": train, "reconstructions_test": reconstructions, "samples_test": samples}
    _draw_distances(axes[0][0], distances, "validate")
    assert axes[0][0].get_xlabel() == note
    assert len(axes[0][0].patches) == [train, reconstructions, samples].count(MEASURED)
