"""A device with the limits of mps, for machines without mps; see device_stand_in.py.

float64, complex128 and operators without an mps kernel are refused. torch lists its kernels in native_functions.yaml.

    with StandIn.everywhere(): ...  # run.device auto is now this device
"""

from contextlib import AbstractContextManager
from functools import cache
from importlib import resources
from typing import Any

import device_stand_in
import torch
import yaml
from device_stand_in import Limits, device_everywhere

NAME = "mps_stand_in"
KERNELS = {"MPS", "CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}


class MPSLimits(Limits):
    """The types and operators that mps does not have."""

    name = NAME
    refused_types = (torch.float64, torch.complex128)

    def check(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if not has_kernel(name):
            raise NotImplementedError(f"{name} has no kernel on mps")


class StandIn:
    """The device."""

    @staticmethod
    def everywhere() -> AbstractContextManager[device_stand_in.StandIn]:
        """Make the device the default of this process. This cannot be undone, so call it in a separate process."""
        return device_everywhere(MPSLimits())


@cache
def has_kernel(name: str) -> bool:
    """Tell whether torch has an mps kernel for an operator, or composes it of other operators."""
    operators = read_operators()
    entry = operators.get(name.removeprefix("aten::"))
    if entry is None:
        return not name.startswith("aten::")
    entry = operators.get(entry.get("structured_delegate"), entry)
    dispatch = entry.get("dispatch")
    # An operator without dispatch entry is composed of others, as are generated in-place and out= variants.
    return dispatch is None or any(KERNELS & set(key.replace(" ", "").split(",")) for key in dispatch)


@cache
def read_operators() -> dict[str, dict[str, Any]]:
    """Return torch's operators: name with overload -> its declaration in the source."""
    text = (resources.files("torchgen") / "packaged/ATen/native/native_functions.yaml").read_text()
    return {entry["func"].split("(")[0]: entry for entry in yaml.load(text, Loader=yaml.CSafeLoader)}
