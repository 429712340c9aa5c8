"""Files that another version of alikit wrote: which it was, which this is, and what to do.

What a run or a study leaves behind carries the number of its format and the version that wrote it. A format gets the
next number when older versions could not read it; what can still be read is read.
"""

import re

from .errors import AlikitError

COMMAND = re.compile(
    r"alikit train [\w.,:=+@%/ '~\[\]-]{1,300}"
)  # of a file that may be a stranger's: it is shown, and run


def check(file: object, found: object, ours: int, wrote: object = None, instead: str = "train again") -> None:
    """Raises AlikitError, in one line, unless a file's format `found` is `ours`.

    wrote    what the file says of the version that wrote it
    instead  what can be done without that version
    """
    if found == ours:
        return
    from . import __version__  # which is set after all that it is made of

    who = f"alikit {wrote}" if isinstance(wrote, str) and re.fullmatch(r"[\w.+]{1,40}", wrote) else None
    if who == f"alikit {__version__}":  # a checkout between two versions
        who = None
    if type(found) is int and found > ours:
        way = f"install {f'{who} or newer' if who else 'a newer alikit'}"
        raise AlikitError(
            f"{file} is from {who or 'a newer alikit'} (format {found}), and this is alikit {__version__} "
            f"(format {ours}): {way}"
        )
    who = who or "another version of alikit"
    raise AlikitError(f"{file} is from {who}, and this is alikit {__version__}: use that one, or {instead}")


def again(settings: dict) -> str:
    """How a run is trained anew, with the command that its settings keep where that is one of alikit's, and no more."""
    command = str(settings.get("command")).partition(";")[0]  # of a run that went further, the first
    if not COMMAND.fullmatch(command) or command.count("'") % 2:
        return "train again"
    return f"train again with: {command}"
