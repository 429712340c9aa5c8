"""Commands of alikit in processes of their own, to be killed, starved, interrupted and watched: forks of a process that
has imported everything, so that they start at once and a moment chosen by chance falls into the work itself."""

import contextlib
import json
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

SOAK = "ALIKIT_SOAK" in os.environ  # many more of everything, as in `make soak`
PATIENCE = 300  # seconds, after which a process that has not ended hangs
TRAIN = "train digits --steps 30 --batch 20 --set ema=0.9 --seed 3 --out run"
STUDY = "study mixture --workers 2 --out study"
ARMS = {"calm": 0.9, "gan": 0.0}

os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # an arena for each thread would fill what bad.py lets a process map
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits on a busy machine is not to spin meanwhile
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["alikit.cli"])


class Started:
    """function(*arguments) in a process that leads a session of its own, in the folder; its output goes to files."""

    def __init__(self, folder: Path, function: Callable, *arguments):
        self._said = [folder / f"{name}-{time.monotonic_ns()}.txt" for name in ("out", "err")]
        for file in self._said:
            file.touch()  # here, for it may be killed before it has written anything
        self._process = _context.Process(target=_in_its_own_session, args=(folder, self._said, function, arguments))
        self.begun, self.is_alive = time.monotonic(), self._process.is_alive
        self._process.start()
        self.pid = self._process.pid

    def wait(self) -> int:
        """Its exit status, or minus the signal that killed it."""
        self._process.join(PATIENCE)
        hangs = self._process.exitcode is None
        self.kill()
        assert not hangs, f"it hangs; it said: {self.err}"
        self.seconds = time.monotonic() - self.begun
        return self._process.exitcode

    def kill(self, number: int = signal.SIGKILL, group: bool = False) -> None:
        """Sends the signal, to all processes of the session if asked to. One that has ended gets none."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def until(self, happened: Callable[[], bool]) -> None:
        """Waits until it has happened, for as long as the process is alive."""
        while not happened():
            assert self.is_alive() and time.monotonic() - self.begun < PATIENCE, self.err
            time.sleep(0.002)

    def others(self) -> list[int]:
        """The other processes of its session that have not ended."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                state, _, group = (place / "stat").read_text().rpartition(")")[2].split()[:3]
                found += [int(place.name)] if int(group) == self.pid != int(place.name) and state != "Z" else []
        return found

    @property
    def err(self) -> str:
        """What a person sees at last: of a progress bar, the last state."""
        return "\n".join(line.rpartition("\r")[2] for line in self._said[1].read_bytes().decode().split("\n"))

    @property
    def last(self) -> str:
        """The last line that a person sees."""
        return [line for line in self.err.splitlines() if line.strip()][-1]


def alikit(line: str, folder: Path, before: Callable[[], object] = dict) -> Started:
    """`alikit LINE` in the folder, where `before` has prepared the process."""
    return Started(folder, _alikit, line, before)


def finished(line: str, folder: Path, before: Callable[[], object] = dict) -> Started:
    """The same when it has ended, with its `status`. However it ended, there was no traceback."""
    command = alikit(line, folder, before)
    command.status = command.wait()
    assert "Traceback" not in command.err, command.err
    return command


def small() -> None:
    """Before STUDY: it is a small one, and its workers are forks, so that they are in its session."""
    from alikit import studies

    arms = {arm: ("mixture-gan", {"batch_size": 20, "ema": ema}) for arm, ema in ARMS.items()}
    studies.STUDIES["mixture"] = studies.Study("two short arms", arms, steps=40, runs=1)
    studies.MEASURED_EVERY = 20
    studies.CONTEXT = multiprocessing.get_context("fork")


def untimed(file: Path) -> list[dict]:
    """The lines of a log, or of a study's finished runs, without their times."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    clock = {"seconds", "images_per_second"}
    lines = [line | {"history": [{**h, "seconds": 0} for h in line.get("history", ())]} for line in lines]
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


def _in_its_own_session(folder: Path, said: list[Path], function: Callable, arguments: tuple) -> None:
    os.setsid()
    os.chdir(folder)
    for number, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    # As from a terminal, though the tests themselves may run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    function(*arguments)


def _alikit(line: str, before: Callable[[], object]) -> None:
    from alikit.cli import main

    before()
    sys.argv = ["alikit", *shlex.split(line)]
    sys.exit(main())
