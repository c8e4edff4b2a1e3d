"""Errors that a user can act on: what was found, what the limit is, the likely cause; the path last."""

from pathlib import Path


class Fault(Exception):
    """Bad content or a broken limit. The command line prints it in one line and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, *, path: str | Path | None = None) -> None:
        """Keep `message` (found, limit, likely cause; no patient identifiers) and the file it is about."""
        super().__init__(message)
        self.message = message
        self.path = None if path is None else Path(path)

    @property
    def kind(self) -> str:
        """The fault's name, stable for scripts."""
        return type(self).__name__

    def __str__(self) -> str:
        """One line: kind, message, path."""
        where = "" if self.path is None else f" [{self.path}]"
        return f"{self.kind}: {self.message}{where}"


class Misuse(Fault):
    """Wrong use: a missing choice, an unknown name, an option that does not fit."""

    exit_code = 2


class MissingPackage(Misuse):
    """Something that has to be installed first; the message says what and how."""
