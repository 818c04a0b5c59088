"""A report of `vqdist evaluate`, for the tests of publishing."""

from typing import Any

REPORT: dict[str, Any] = {
    "task": "pixelcnn",
    "model": "p" * 64,
    "split": "test",
    "samples": 96,
    "subjects": 3,
    "metrics": {
        "bits_per_code": {"mean": 2.32, "low": 2.26, "high": 2.38},
        "uniform_bits_per_code": {"mean": 9, "low": None, "high": None},
    },
    "realism": {
        "copies": {
            "samples": {"near_copies": 1, "slices": 256, "largest": 0.875},
            "test": {"near_copies": 0, "slices": 96, "largest": 0.75},
        }
    },
}
