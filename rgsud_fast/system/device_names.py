"""Names of devices. It imports nothing heavy: the configuration and the command line ask it before torch is loaded."""

from __future__ import annotations

import re

from ..errors import UserError

PATTERN = r"^(auto|cpu|cuda(:\d+)?)$"
ALLOWED = "auto, cpu, cuda or cuda:N"


def check_device(name: str) -> None:
    """Demand a name that a device may have; whether it is there is known to torch alone.

    Raises:
        UserError: there is no such device.
    """
    if not re.match(PATTERN, name):
        raise UserError(f"device must be {ALLOWED}, got {name!r}")
