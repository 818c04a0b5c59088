"""How a line of metrics.jsonl is laid out in W&B."""

from vqdist.tracking.metric_rows import find_best, join_reports, to_event


def test_a_line_of_metrics_goes_to_its_sections() -> None:
    record = {
        "step": 20,
        "samples": 320,
        "split": "validate",
        "loss": 0.5,
        "ssim": 0.9,
        "psnr": None,
        "perplexity": 11.0,
        "bits_per_code": 3.0,
        "note": "not a number",
        "perf": {"seconds": 2.0, "memory_gib": 1.5},
    }
    event = to_event(record)
    assert (event["stream"], event["step"]) == ("validate", 20)
    assert event["row"] == {
        "global_step": 20,
        "samples": 320,
        "validate/loss": 0.5,
        "validate/ssim": 0.9,
        "codebook/perplexity_validate": 11.0,
        "prior/bits_per_code_validate": 3.0,
        "speed/seconds_validate": 2.0,
        "system/memory_gib_validate": 1.5,
    }


def test_the_speed_of_training_has_no_split() -> None:
    record = {"step": 1, "samples": 16, "split": "train", "restarts": 2, "perf": {"seconds": 2.0, "memory_gib": 1.5}}
    assert to_event(record)["row"] == {
        "global_step": 1,
        "samples": 16,
        "codebook/restarts_train": 2,
        "speed/seconds": 2.0,
        "system/memory_gib": 1.5,
    }


def test_the_parts_of_a_step_are_joined_and_the_rest_keeps_its_place() -> None:
    row, late = {"do": "row", "step": 2, "stream": "train"}, {"do": "row", "step": 4, "stream": "train"}
    picture, artifact = {"do": "picture", "step": 2, "stream": "p"}, {"do": "artifact", "name": "a"}
    evaluate = {"do": "row", "row": {"global_step": 2}}
    joined = join_reports([row, artifact, late, picture, evaluate])
    assert joined == [
        {"do": "report", "step": 2, "parts": [row, picture]},
        artifact,
        {"do": "report", "step": 4, "parts": [late]},
        evaluate,
    ]


def test_the_best_value_is_the_lowest_loss_and_the_highest_similarity() -> None:
    rows = [
        {"validate/loss": 3.0, "validate/ssim": 0.1},
        {"validate/loss": 1.0},
        {"validate/ssim": 0.3, "train/loss": 0},
    ]
    assert find_best(rows) == {"validate/loss": {"min": 1.0}, "validate/ssim": {"max": 0.3}}
