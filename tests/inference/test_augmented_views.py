"""Augmented views of a slice."""

import torch

from vqdist.inference.augmented_views import View, Views


def test_a_view_is_mirrored_then_shifted() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    assert torch.equal(
        View(1, "up-down", down=1).apply(image)[0], torch.tensor([[0, 0, 0], [6, 7, 8], [3, 4, 5]]).float()
    )
    assert torch.equal(View(2, right=-2).apply(image)[0], torch.tensor([[2, 0, 0], [5, 0, 0], [8, 0, 0]]).float())
    assert torch.equal(View().apply(image), image)


def test_the_views_of_a_sample_without_subject_share_its_key() -> None:
    described = View(1, mirror="up-down", down=2).describe("a", {"slice": 3})
    assert described == {"slice": 3, "subject": "a", "view": {"mirror": "up-down", "shift": [2, 0]}}
    assert View(1).describe("a", {"subject": "b"})["subject"] == "b"
    assert View().describe("a", {"slice": 3}) == {"slice": 3}
    assert [View(number).name("a") for number in (0, 2)] == ["a", "a-view2"]


def test_a_view_depends_only_on_the_subject_and_the_number() -> None:
    views = Views(number=40, shift=2, mirror="left-right")
    chosen = [views.choose("a", number) for number in range(40)]
    assert chosen == [Views(number=99, shift=2, mirror="left-right").choose("a", number) for number in range(40)]
    assert chosen[0] == View()
    assert [view.mirror for view in chosen[1:5]] == ["left-right", "none", "left-right", "none"]
    assert {view.down for view in chosen} == {view.right for view in chosen} == {-2, -1, 0, 1, 2}
    assert chosen[1:] != [views.choose("b", number) for number in range(1, 40)]
