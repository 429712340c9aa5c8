"""The exceptions for what a person can mend."""


class AlikitError(ValueError):
    """Bad input. The message is one line: what is wrong and what to do. The command line shows it and exits with 2."""


class Diverged(AlikitError):
    """Training that ended in losses that are not numbers."""
