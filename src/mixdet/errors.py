"""The one kind of error a user sees: a single line, an exit code, no traceback."""

from __future__ import annotations


class MixdetError(Exception):
    """Something the user can put right: a recipe, a command line, a file.

    The message is one line that names the place (file, field, id), the value found there and the fix.

    Args:
        message: that line.
        exit_code: 2 for usage, recipes and data; 3 for the environment (missing network, device, disk).
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotFinite(MixdetError):
    """A loss or a gradient that is not a number: the parameters are as they were before the step."""


class EnvironmentFault(MixdetError):
    """The machine, not the input: no network, no such device, a full disk (exit code 3)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=3)
