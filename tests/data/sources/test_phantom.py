"""Synthetic slices: deterministic, and with the properties of real ones."""

import numpy as np
import pytest

from vqdist.data.sources.phantom import describe_phantom, phantom_slice


def draw(subject: int = 0, slice_number: int = 16, **options: int) -> np.ndarray:
    return phantom_slice(subject, slice_number, **{"image_size": 128, **options})


def ventricle_area(image: np.ndarray) -> int:
    """Return the number of dark pixels in the centre of the brain, away from the fissure and the sulci."""
    size = len(image)
    middle = image[int(0.4 * size) : int(0.6 * size), int(0.38 * size) : int(0.62 * size)]
    return int((middle < 90).sum())


def test_the_same_arguments_give_the_same_slice() -> None:
    assert np.array_equal(draw(3, 7), draw(3, 7))
    for other in (draw(4, 7), draw(3, 8), draw(3, 7, seed=1)):
        assert not np.array_equal(draw(3, 7), other)


@pytest.mark.parametrize("size", [64, 100, 256])
def test_a_slice_is_a_bright_brain_on_black(size: int) -> None:
    for slice_number in (0, 16, 31):
        image = draw(1, slice_number, image_size=size)
        assert image.shape == (size, size)
        assert image.dtype == np.uint8
        inside = image > 0
        assert 0.3 < inside.mean() < 0.6
        assert 150 < image[inside].mean() < 215
        assert 40 < image[inside].std() < 70
        assert not inside[: size // 32].any()
        assert not inside[:, -size // 32 :].any()


def test_sizes_show_the_same_brain() -> None:
    fine = draw(2, 16, image_size=256).reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.corrcoef(fine.ravel(), draw(2, 16).ravel())[0, 1] > 0.97


def measure_noise(image: np.ndarray) -> float:
    """Return the median absolute difference of neighbouring bright pixels, in grey levels."""
    steps = np.abs(np.diff(image.astype(float), axis=1))
    return float(np.median(steps[(image[:, 1:] > 195) & (image[:, :-1] > 195)]))


def test_larger_pixels_have_less_noise() -> None:
    fine, coarse = (measure_noise(draw(1, 31, image_size=size)) for size in (256, 64))
    assert coarse < 0.6 * fine


def test_neighbouring_slices_are_more_similar_than_subjects() -> None:
    image = draw(0, 16).ravel()
    near, far, other = (np.corrcoef(image, x.ravel())[0, 1] for x in (draw(0, 17), draw(0, 28), draw(1, 16)))
    assert near > 0.95
    assert near > far + 0.03
    assert near > other + 0.03


def test_ventricles_change_with_slice_and_subject() -> None:
    middle = [ventricle_area(draw(subject, 24)) for subject in range(8)]
    low = [ventricle_area(draw(subject, 2)) for subject in range(8)]
    assert np.mean(middle) > 3 * np.mean(low)
    assert max(middle) > 1.3 * min(middle)


def test_the_middle_slice_does_not_depend_on_the_number_of_slices() -> None:
    few, many = draw(0, 1, num_slices=4), draw(0, 15, num_slices=32)
    assert np.corrcoef(few.ravel(), many.ravel())[0, 1] > 0.95


def test_people_are_20_to_90_years_old_and_of_both_sexes() -> None:
    people = [describe_phantom(subject) for subject in range(200)]
    ages = np.array([person.age for person in people])
    assert 20 <= ages.min() < 25
    assert 85 < ages.max() <= 90
    assert 70 < sum(person.sex == "F" for person in people) < 130
    assert describe_phantom(3) == describe_phantom(3) != describe_phantom(3, seed=1)


def test_old_brains_have_more_fluid_and_heads_of_men_are_larger() -> None:
    people = [describe_phantom(subject) for subject in range(40)]
    slices = [draw(subject, 20, image_size=64) for subject in range(40)]
    ages = [person.age for person in people]
    assert np.corrcoef(ages, [((image > 0) & (image < 90)).mean() for image in slices])[0, 1] > 0.7
    areas = np.array([(image > 0).mean() for image in slices])
    men = np.array([person.sex == "M" for person in people])
    assert areas[men].mean() > 1.06 * areas[~men].mean()
