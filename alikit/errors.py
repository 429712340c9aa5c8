"""The exceptions for what a person can mend."""


class AlikitError(ValueError):
    """Bad input. The message is one line: what is wrong and what to do. The command line shows it and exits with 2."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class Diverged(AlikitError):
    """Training that ended in losses that are not numbers."""


def one_line(text: str) -> str:
    """The text with what is not printed, ends of lines and what a terminal obeys, written out: names of files may hold
    any of it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
