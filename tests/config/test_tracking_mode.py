"""Which value decides the mode of tracking."""

import pytest

from vqdist.config.tracking_mode import resolve_mode
from vqdist.foundation.errors import ConfigError


@pytest.mark.parametrize(
    ("flag", "environ", "file", "mode"),
    [
        (None, {}, None, "auto"),
        (None, {}, "offline", "offline"),
        (None, {"WANDB_MODE": "online"}, "offline", "online"),
        ("disabled", {"WANDB_MODE": "online"}, "offline", "disabled"),
        (None, {"WANDB_MODE": "dryrun"}, None, "offline"),
        (None, {"WANDB_MODE": ""}, "online", "online"),
        (None, {"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "auto", "disabled"),
        ("auto", {"WANDB_DISABLED": "true"}, None, "auto"),
    ],
)
def test_flag_overrides_environment_overrides_file(
    flag: str | None, environ: dict[str, str], file: str | None, mode: str
) -> None:
    assert resolve_mode(flag, environ, file) == mode


def test_a_value_that_is_not_a_mode_is_named() -> None:
    with pytest.raises(ConfigError, match="WANDB_MODE: found 'onlin'"):
        resolve_mode(None, {"WANDB_MODE": "onlin"}, "auto")
