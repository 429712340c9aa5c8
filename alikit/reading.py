"""Files that a stranger may have made: only regular ones are opened, and no more is read than one of ours can hold."""

import errno
import io
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import AlikitError

SETTINGS, LINE, LOG = 2**20, 2**20, 2**26  # most bytes of a JSON file, of a line of a log, and of a log


@contextmanager
def boundary(file: str | os.PathLike, way: str) -> Iterator[None]:
    """Turns whatever the block raises while it opens and decodes `file` into an AlikitError of one line.

    Decoders of damaged files raise nearly anything, so this is the one place that catches Exception. `way` says what
    the person can do, as "record it anew".
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
    """The bytes of a regular file. OSError where it has more than `most`."""
    with opened(file) as found:
        if os.fstat(found.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(file))
        return found.read()


def lines(file: Path, most: int = LOG) -> Iterator[bytes]:
    """The lines of a regular file. OSError for a file of more than `most` bytes or a line of more than `LINE`."""
    for number, line in enumerate(io.BytesIO(content(file, most)), 1):
        if len(line) > LINE:
            raise OSError(errno.EFBIG, f"line {number} is larger than {LINE:,} bytes", str(file))
        yield line


def parsed(text: bytes, nan: bool = False) -> object:
    """The value of a JSON text. ValueError for anything else, and without `nan` for numbers that are not finite."""
    try:
        return json.loads(text) if nan else json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not finite")
    return number


def check_format(file: object, found: object, ours: int, wrote: object = None, instead: str = "train again") -> None:
    """AlikitError unless `found`, the number of a file's format, is `ours`; a format gets the next number when older
    versions could not read it. `wrote` is the version that the file names, `instead` what can be done without it."""
    from . import __version__  # defined only after this module is imported

    if found != ours:
        known = isinstance(wrote, str) and re.fullmatch(r"[\w.+]{1,40}", wrote) and wrote != __version__
        who, way = f"alikit {wrote}" if known else "another version of alikit", f"use that one, or {instead}"
        if type(found) is int and found > ours:
            way = f"install {who if known else 'that one'} or newer"
        raise AlikitError(f"{file} is from {who}, and this is alikit {__version__} (format {ours}): {way}")
