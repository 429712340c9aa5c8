"""Signals that stop a run."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .distributed import is_together

_asked: list[int] = []  # the signals by which this process was asked to stop


# Ctrl-C, what a cluster sends, and what comes when a terminal is gone, which Windows does not have.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _heeded_here() -> list[int]:
    """Those that stop this process: all but what it was started to ignore, as Ctrl-C in the background and SIGHUP by
    nohup. SIGTERM always does."""
    return [n for n in STOPS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]


@contextmanager
def stopping_together() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP ask all processes to stop after a step, see `any_of_all`; who stopped by itself would
    leave the others waiting. Whoever is stopping is then not to be stopped at that."""
    if not is_together() or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked.clear()
    numbers = _heeded_here()
    after = {number: signal.signal(number, lambda number, _: _asked.append(number)) for number in numbers}
    try:
        yield
        if _asked:  # in the last step
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        after = dict.fromkeys(numbers, signal.SIG_IGN)
        raise
    finally:
        for number, handler in after.items():
            signal.signal(number, handler)


@contextmanager
def whole() -> Iterator[None]:
    """Holds Ctrl-C, SIGTERM and SIGHUP back until what is within is done: from half a step nobody could go on, half a
    report would be missing for good, and half a transaction would keep others from a study's books."""
    if threading.current_thread() is not threading.main_thread():  # only there do signals arrive, or handlers change
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in held:  # one may be ignored here, as Ctrl-C is by a study's worker, and the next one not
        signal.raise_signal(number)


@contextmanager
def stopped_once() -> Iterator[None]:
    """Ctrl-C is KeyboardInterrupt, and so are SIGTERM, by which a cluster asks for its machine back, and SIGHUP, by
    which a terminal says that it is gone. What comes within a second of one is the same wish; later ones count again,
    for an interrupt can be lost in a library."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = [-math.inf]
    global _heeded

    def stop(*_) -> None:
        if time.monotonic() - asked[0] > 1:
            asked[0] = time.monotonic()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _heeded_here()}
    _heeded = True
    try:
        yield
    finally:
        _heeded = False
        for number, handler in before.items():
            signal.signal(number, handler)


_heeded = False  # whether this process is within `stopped_once`


def stopping() -> None:
    """From here to the end of `stopped_once`, whoever is stopping is not stopped at that. Elsewhere nothing changes."""
    if _heeded:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
