"""What the browser tests and their fixtures share."""

import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "browser"


def until(true: Callable[[], object], complaint: str, seconds: float = 20) -> None:
    """Waits until true() is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{complaint}, in {seconds:g} s"
        time.sleep(0.05)
