"""Files that strangers may have made: only regular ones are opened, and no more is read than one of ours can hold."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import AlikitError

SETTINGS = 2**20  # bytes of a JSON file; with the names of all classes, ours have some thousand
LINE = 2**20  # bytes of a line of a log; a study's have some thousand
LOG = 2**26  # bytes of a log: a line of a few hundred bytes every hundred steps


@contextmanager
def boundary(file: str | os.PathLike, way: str) -> Iterator[None]:
    """Turns whatever a decoder raises for a file into one AlikitError line.

    Decoders of damaged files raise nearly anything, so this is the one place that catches Exception. Use it around the
    code that opens and decodes one file; what follows may then assume good input.

    way  what the person can do about it, as "take the recorded run anew"
    """
    try:
        yield
    except AlikitError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise AlikitError(f"{file} is missing: {way}") from None
    except OSError as error:
        raise AlikitError(f"cannot read {file} ({error.strerror or error}): {way}") from None
    except Exception:
        raise AlikitError(f"{file} is damaged or not what it should be: {way}") from None


def opened(file: str | os.PathLike) -> BinaryIO:
    """The file, open for reading. OSError for a pipe, a socket or a device too, which might never end."""
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(file))
    return open(file, "rb")


def content(file: Path, most: int = SETTINGS) -> bytes:
    """The bytes of a file. OSError where it has more than `most`, besides what `opened` raises."""
    with opened(file) as found:
        read = found.read(most + 1)
    if len(read) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(file))
    return read


def lines(file: Path, most: int = LOG) -> Iterator[bytes]:
    """The lines of a file one by one. OSError as for `content`, and for a line of more than `LINE` bytes."""
    with opened(file) as found:
        if os.fstat(found.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(file))
        for number, line in enumerate(iter(lambda: found.readline(LINE + 1), b""), 1):
            if len(line) > LINE:
                raise OSError(errno.EFBIG, f"line {number} is larger than {LINE:,} bytes", str(file))
            yield line


def parsed(text: bytes, nan: bool = False) -> object:
    """What the text of a JSON file says. ValueError where it is none, and for numbers that are not finite unless `nan`
    says that there may be some."""
    try:
        found = json.loads(text) if nan else json.loads(text, parse_float=_finite, parse_constant=_finite)
        if b"\\u" in text:  # half a character, which could be written so and nowhere else
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not finite")
    return number
