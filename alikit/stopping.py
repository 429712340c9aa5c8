"""Ctrl-C, SIGTERM and SIGHUP: a run that is asked to stop finishes its step, so that it can go on later."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Ctrl-C, what a cluster sends, and what comes when a terminal is gone, which Windows does not have.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _handled(handler: Callable) -> dict[int, object]:
    """Sets the handler of each signal that this process does not ignore (nohup ignores SIGHUP, for example); returns
    the earlier ones. SIGTERM is never ignored. Only the main thread may set handlers, and only it gets signals."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [n for n in STOPS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block all three signals raise KeyboardInterrupt, as Ctrl-C does by itself; those that follow within a
    second are the same wish. After one the handlers stay as they are: the process is about to end."""
    came = -math.inf

    def stop(*_) -> None:
        nonlocal came
        if time.monotonic() - came > 1:
            came = time.monotonic()
            raise KeyboardInterrupt

    before = _handled(stop)
    try:
        yield
    finally:
        if came == -math.inf:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def held(again: bool = True) -> Iterator[Callable[[], bool]]:
    """Holds the signals back until the block is done; what it yields says whether one has come.

    again  whether a signal that came takes effect then, unless the block ends with an exception; otherwise it is
           dropped, as a second Ctrl-C while the first one is being obeyed
    """
    came: list[int] = []
    before = _handled(lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if again and came:
        signal.raise_signal(came[0])
