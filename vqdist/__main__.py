"""Run `python -m vqdist COMMAND ...`."""

import sys

from vqdist.cli import entry_point

sys.exit(entry_point())
