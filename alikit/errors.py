"""The exceptions for mistakes that a person can mend."""

import errno
from pathlib import Path

# What to do when the system refuses to write a file.
WAYS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    errno.ENOENT: "make its folder first",
    **dict.fromkeys((errno.EISDIR, errno.EEXIST, errno.ELOOP), "move that elsewhere"),
    errno.ENAMETOOLONG: "give it a shorter name",
}


class AlikitError(ValueError):
    """Bad input. The message is one line: what is wrong and what to do. The command line shows it and exits with 2."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class Diverged(AlikitError):
    """Training that ended in losses or weights that are not finite."""


def unwritten(error: OSError, place: object, then: str) -> AlikitError:
    """The error for a `place` that the system refuses to write; `then` ends the line, as "or name another folder"."""
    way = WAYS.get(error.errno, "make that possible")
    return AlikitError(f"cannot write {place} ({error.strerror or error}): {way}, {then}")


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~NAME replaced by the home folder. AlikitError for a user that does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise AlikitError(f"nobody here has the home folder of {path}: write the path in full") from None


def one_line(text: str) -> str:
    """The text with all that is not printable escaped, such as line ends in the name of a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
