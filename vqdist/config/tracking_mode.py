"""Which of `--tracking.mode`, WANDB_MODE and the configuration file decides how a run is tracked."""

from collections.abc import Mapping
from typing import Literal

from vqdist.foundation.errors import ConfigError

Mode = Literal["auto", "online", "offline", "disabled"]
_MODES: dict[str, Mode] = {"auto": "auto", "online": "online", "offline": "offline", "disabled": "disabled"}
_MODES |= {"run": "online", "dryrun": "offline"}  # other names that WANDB_MODE may have


def resolve_mode(flag: str | None, environ: Mapping[str, str], file: str | None) -> Mode:
    """Return the mode: the flag overrides the environment, the environment overrides the file.

    Args:
        flag: the value of `--tracking.mode`; None if it was not given.
        environ: the environment, of which WANDB_MODE and WANDB_DISABLED count.
        file: `tracking.mode` of the configuration file; None if it is not there.

    Raises:
        ConfigError: the value that decides is not a mode.
    """
    is_disabled = environ.get("WANDB_DISABLED", "").lower() in {"true", "1"}
    variable = "disabled" if is_disabled else environ.get("WANDB_MODE") or None
    for where, value in (("tracking.mode", flag), ("WANDB_MODE", variable), ("tracking.mode", file)):
        if value in _MODES:
            return _MODES[value]
        if value is not None:
            raise ConfigError.of(where, repr(value), "auto, online, offline or disabled")
    return "auto"
