"""The table of the comparison of samples: figures beside those of real slices, and what they differ in."""

from typing import Any

from vqdist.evaluation.samples.realism_table import describe_realism


def summary(mean: float | None, half: float | None = None) -> dict[str, float | None]:
    if mean is None or half is None:
        return {"mean": mean, "low": None, "high": None}
    return {"mean": mean, "low": mean - half, "high": mean + half}


def build_realism() -> dict[str, Any]:
    figures = {
        name: {"samples": summary(0.3), "train": summary(0.4), "test": summary(0.41), "difference": summary(0.0, 0.1)}
        for name in ("brain_area", "ventricle_area", "left_right", "fine_detail_db")
    }
    figures["left_right"]["difference"] = summary(-0.5, 0.25)
    fit = {"samples": {"correlation": 0.5}, "test": {"correlation": None}}
    return {
        "samples": 64,
        "feature_distance": {
            "train_test": summary(0.015, 0.01), "samples_test": summary(0.04), "samples_train": summary(0.02),
        },
        "coverage": {
            "samples": {"coverage": summary(0.75), "density": summary(1.5), "subjects": 12.0},
            "train": {"coverage": summary(None), "density": summary(2.0), "subjects": 18.0},
        },
        "same_person_pairs": {"samples": {"mean": 0.0, "low": 0.0, "high": 0.001}, "train": 0.05},
        "diversity": {"samples": 0.756, "train": 0.772, "test": None},
        "grey_values": {"train_test": 0.01, "samples_test": None},
        "copies": {
            "limits": {"whole": 0.9, "half": 0.92},
            "samples": {"near_copies": 2, "slices": 64, "largest": 0.95},
            "test": {"near_copies": 0, "slices": 96, "largest": 0.8},
            "calibration": {
                "train_slices": 3,
                "kinds": {"unchanged": {"found": 3, "copies": 3}, "gamma 0.7": {"found": 1, "copies": 3}},
            },
        },
        "slice_figures": figures,
        "anatomy_by_slice": {"brain_area": fit, "ventricle_area": fit},
    }  # fmt: skip


def test_every_figure_has_that_of_real_slices_beside_it() -> None:
    heading, *rows = describe_realism(build_realism(), "validate")
    assert heading == "64 samples beside real slices of train and validate, 95 % intervals"
    assert [" ".join(row.split()) for row in rows] == [
        "feature distance to validate 0.04 train to validate 0.015 0.005 to 0.025",
        "feature distance to train 0.02 below 0: nearer than a new person",
        "coverage of validate 0.75 as many slices of train none",
        "density of validate 1.5 as many slices of train 2",
        "train people resembled 12 slices of train, without their own person, 18",
        "people among the samples above 1,000.0 train 20.0",
        "MS-SSIM of pairs 0.756 train 0.772, validate none",
        "grey value distance none train 0.01",
        "near copies 2 validate 0 of 96",
        "most similar to train 0.95 validate 0.8; near copy above 0.9",
        "found by this limit 4 of 6 altered copies of 3 train slices: gamma 0.7 1 of 3",
        "brain area 0.3 train 0.4; validate 0.41",
        "fluid in the inner brain 0.3 train 0.4; validate 0.41",
        "left-right similarity 0.3 train 0.4; validate 0.41; differs from real people by -0.5 -0.75 to -0.25",
        "fine detail, dB 0.3 train 0.4; validate 0.41",
        "fit of brain to slice 0.5 correlation; validate none",
        "fit of fluid to slice 0.5 correlation; validate none",
    ]


def test_fewer_people_than_in_train_are_named() -> None:
    realism = build_realism()

    def read_row(low: float | None, high: float | None, mean: float | None = 0.125) -> list[str]:
        realism["same_person_pairs"]["samples"] = {"mean": mean, "low": low, "high": high}
        rows = [" ".join(row.split()) for row in describe_realism(realism, "test")]
        return [row.removeprefix("people among the samples ") for row in rows if row.startswith("people")]

    assert read_row(0.1, 0.2) == ["8.0 5.0 to 10.0 train 20.0; fewer than in train"]
    assert read_row(0.04, 0.2) == ["8.0 5.0 to 25.0 train 20.0"]
    assert read_row(None, None) == ["8.0 train 20.0"]
    assert read_row(None, None, mean=None) == []


def test_fid_and_kid_are_shown_if_they_were_measured() -> None:
    realism = build_realism()
    realism |= {name: {"samples_test": 9.5, "train_test": 7.25} for name in ("fid", "kid")}
    rows = [" ".join(row.split()) for row in describe_realism(realism, "test")]
    assert {"FID to test 9.5 train 7.25", "KID to test 9.5 train 7.25"} <= set(rows)


def test_a_fit_that_was_not_measured_has_no_row() -> None:
    realism = build_realism()
    realism["anatomy_by_slice"]["brain_area"] = {"samples": {"correlation": None}, "test": {"correlation": None}}
    rows = describe_realism(realism, "validate")
    assert [row.split("  ")[1] for row in rows if row.startswith("  fit")] == ["fit of fluid to slice"]
