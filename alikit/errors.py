"""The exceptions for what a person can mend."""

import errno
from pathlib import Path

# What to do about what the system says of a file that it does not write.
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
    """Training that ended in losses that are not numbers."""


def unwritten(error: OSError, place: object, then: str) -> AlikitError:
    """What is said where the system refuses to write `place`: why, what to do about that, and `then`, as "or choose
    another --out"."""
    way = WAYS.get(error.errno, "make that possible")
    return AlikitError(f"cannot write {place} ({error.strerror or error}): {way}, {then}")


def expanded(path: str | Path) -> Path:
    """The path, with ~ and ~NAME as the home folder that they stand for."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise AlikitError(f"nobody here has the home folder of {path}: write the path in full") from None


def one_line(text: str) -> str:
    """The text with what is not printed, ends of lines and what a terminal obeys, written out: names of files may hold
    any of it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
