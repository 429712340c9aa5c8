"""The format numbers of files: which version of alikit wrote a file that this one cannot read, and what to do.

A format gets the next number when older versions could not read it.
"""

import re

from .errors import AlikitError

# A command that is shown to be copied, from a file that may be a stranger's.
COMMAND = re.compile(r"alikit (--recipes [\w.+@%/~-]+ )*train [\w.,:=+@%/ '~\[\]-]{1,300}")
# Options of the versions that wrote format 1 of settings, and that no longer exist.
GONE = re.compile(r" --(beta1|weight-std|averaging|(no-)?(flips|shifts)|bf16|strategy)\b")


def check(file: object, found: object, ours: int, wrote: object = None, instead: str = "train again") -> None:
    """Raises AlikitError unless the format `found` in a file is `ours`. `wrote` is the version that the file names;
    `instead` is what can be done without that version."""
    if found == ours:
        return
    from . import __version__  # defined only after this module is imported

    who = f"alikit {wrote}" if isinstance(wrote, str) and re.fullmatch(r"[\w.+]{1,40}", wrote) else None
    if who == f"alikit {__version__}":  # a checkout between two versions
        who = None
    if type(found) is int and found > ours:
        raise AlikitError(
            f"{file} is from {who or 'a newer alikit'} (format {found}), and this is alikit {__version__} "
            f"(format {ours}): install {f'{who} or newer' if who else 'a newer alikit'}"
        )
    who = who or "another version of alikit"
    raise AlikitError(f"{file} is from {who}, and this is alikit {__version__}: use that one, or {instead}")


def again(settings: dict) -> str:
    """How to train a run again: with the first command that its settings keep, if it is one that still works."""
    command = str(settings.get("command")).partition(";")[0]
    if not COMMAND.fullmatch(command) or GONE.search(command) or command.count("'") % 2:
        return "train again"
    return f"train again with: {command}"
