"""The two models together: conditions with the codes of the previous slices."""

from pathlib import Path

import torch
from support import VOLUMES, save_prior, save_vqvae, write_codes, write_image_set

from vqdist.inference.augmented_views import View
from vqdist.inference.prior_and_vqvae import PriorAndVQVAE, read_prior_files
from vqdist.inference.slice_source import open_split
from vqdist.models.map_conditions import MapConditions


def test_the_previous_slices_are_encoded(tmp_path: Path) -> None:
    images = write_image_set(tmp_path / "images", slices=VOLUMES)
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images)
    save_prior(tmp_path / "prior", codes, context="previous")
    save_prior(tmp_path / "alone", codes)
    models, alone = (PriorAndVQVAE.build(read_prior_files(tmp_path / name)) for name in ("prior", "alone"))
    source = open_split(images, "test", channels=1)
    assert [info.slice for info in source.infos] == [14, 15, 16, 17] * 2
    known = MapConditions(slice=torch.tensor([2, 0, 1]))
    with torch.inference_mode():
        found = models.add_previous(known, source, [6, 4, 1])
        encoded = models.vqvae.encode(torch.stack([torch.tensor(source.read(n)) for n in (5, 0)]).float() / 255)
    assert found.previous is not None
    assert torch.equal(found.slice, known.slice)
    assert torch.equal(found.previous[[0, 2]], encoded)
    assert (found.previous[1] == -1).all()  # the first slice of the second volume
    assert alone.add_previous(known, source, [6, 4, 1]).previous is None
    shift = View(down=-3, right=2)
    with torch.inference_mode():
        both = models.add_previous(known, source, [6, 4, 1], [View(), shift])
        image = shift.apply(torch.tensor(source.read(5)).float() / 255)
        shifted = models.vqvae.encode(image[None])
    assert both.slice.tolist() == [2, 0, 1, 2, 0, 1]
    assert torch.equal(both.previous[:3], found.previous)
    assert torch.equal(both.previous[3:4], shifted)
    assert models.count_bits(encoded, MapConditions(previous=encoded)).shape == encoded.shape
