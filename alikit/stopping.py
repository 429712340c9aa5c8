"""Ctrl-C, SIGTERM and SIGHUP: a run that gets one of them finishes its step, so that it can go on later."""

import importlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from torch.optim import Optimizer

# Ctrl-C, what a cluster sends, and what comes when a terminal is closed, which Windows does not have.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_latest = [-math.inf]  # when a signal came


def _handled(handler: Callable) -> dict[int, object]:
    """Sets the handler of each signal that this process does not ignore, as nohup makes it ignore SIGHUP; returns the
    earlier ones. Outside the main thread, which alone may set handlers, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [n for n in STOPS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block a signal raises KeyboardInterrupt, unless another one came in the second before it. After a
    signal the handlers stay as they are, because the process is about to end."""

    def stop(*_) -> None:
        before, _latest[0] = _latest[0], time.monotonic()
        if _latest[0] - before > 1:
            raise KeyboardInterrupt

    before = _handled(stop)
    try:
        yield
    finally:
        if _latest[0] == -math.inf:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def held(again: bool = True) -> Iterator[Callable[[], bool]]:
    """Holds signals back until the block is done; the function that it yields says whether one has come. After the
    block the signal is raised, unless `again` is False or the block ended with an exception."""
    came: list[int] = []

    def note(number: int, _) -> None:
        came.append(number)
        _latest[0] = time.monotonic()

    before = _handled(note)
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if again and came:
        _latest[0] = -math.inf
        signal.raise_signal(came[0])


_initialise = Optimizer.__init__


def _first(self: Optimizer, *args, **kwargs) -> None:
    """The first optimiser imports torch's compiler, which takes seconds. An interrupt would leave half of its modules
    behind, and every later optimiser would fail. It only reaches the main thread, so another thread imports them."""
    if not type(self).__module__.startswith("alikit."):  # ours imports none
        ThreadPoolExecutor(1).submit(importlib.import_module, "torch._dynamo").result()
        Optimizer.__init__ = _initialise
    _initialise(self, *args, **kwargs)


Optimizer.__init__ = _first
