"""Three orthogonal views of a volume."""

import numpy as np
import torch

from vqdist.plotting.volume_views import build_views


def test_the_middle_planes_are_beside_each_other_at_one_scale() -> None:
    slices = torch.arange(6 * 20 * 30).reshape(6, 1, 20, 30) / (6 * 20 * 30)
    views = build_views(slices, (1.0, 1.0, 2.0))
    grey = (slices * 255).round().numpy().astype(np.uint8)[:, 0]
    assert views.shape == (1, 28, 64)  # 20 x 30 beside 12 x 30 above 12 x 20
    np.testing.assert_array_equal(views[0, :20, :30], grey[3])
    sagittal, coronal = views[0, :12, 34:64], views[0, 16:28, 34:54]
    assert sagittal[0].mean() > sagittal[-1].mean()  # the top of the head is above
    np.testing.assert_allclose(sagittal[1::2].mean(axis=0), grey[:, 10].mean(axis=0), atol=25)
    assert (np.diff(coronal[0].astype(int)) >= 0).all()  # from the subject's left, the first row
    same = build_views(slices, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(same[0, :6, 34:64], grey[::-1, 10])
    np.testing.assert_array_equal(same[0, 10:16, 34:54], grey[::-1, :, 15])
