"""Three orthogonal views of a volume."""

import numpy as np
import torch

from vqdist.plotting.volume_views import build_views


def test_the_middle_planes_are_below_each_other_at_one_scale() -> None:
    slices = torch.arange(6 * 20 * 30).reshape(6, 1, 20, 30) / (6 * 20 * 30)
    views = build_views(slices, (1.0, 1.0, 2.0))
    grey = (slices * 255).round().numpy().astype(np.uint8)[:, 0]
    assert views.shape == (1, 20 + 4 + 12 + 4 + 12, 30)
    np.testing.assert_array_equal(views[0, :20, :30], grey[3])
    sagittal, coronal = views[0, 24:36], views[0, 40:52, :20]
    assert sagittal[0].mean() > sagittal[-1].mean()  # the top of the head is above
    np.testing.assert_allclose(sagittal[1::2].mean(axis=0), grey[:, 10].mean(axis=0), atol=25)
    assert (np.diff(coronal[0].astype(int)) >= 0).all()  # from the subject's left, the first row
    same = build_views(slices, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(same[0, 24:30], grey[::-1, 10])
    np.testing.assert_array_equal(same[0, 34:40, :20], grey[::-1, :, 15])
