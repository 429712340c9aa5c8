"""One run stays on this machine and leaves the repository as it was, or else it fails: of the tests, for `make test`,
and in `__main__.py` of a script."""

import importlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def state_of_repository() -> set[str] | None:
    """A line for each file that is not as in the last commit, None without git or outside a repository of it."""
    command = ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=all"]
    with suppress(OSError, subprocess.CalledProcessError):
        return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())
    return None


class Session:
    """Guards this process and all Python processes that it starts, from here to `end`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="alikit-offline-")
        self.log = Path(self.folder.name) / "log"
        self.log.touch()
        self.before = state_of_repository()
        os.environ["ALIKIT_OFFLINE_LOG"] = str(self.log)
        others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = [str(HERE), *(other for other in others if other not in ("", str(HERE)))]
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
        sys.path.insert(0, str(HERE))
        importlib.import_module("offline_guard").install()  # the module that a child has, under the same name

    def end(self) -> tuple[str, list[str]]:
        """One line about the run, and a line for each thing that is not as it must be."""
        lines = [line.split("\t") for line in self.log.read_text(encoding="utf-8").splitlines()]
        guarded = sum(kind == "guarded" for kind, _, _ in lines)
        attempts = Counter(f"{event} to {host}" for kind, event, host in lines if kind == "refused")
        meant = Counter({attempt: n for attempt, n in attempts.items() if attempt.endswith(".invalid")})
        attempts -= meant
        problems = [f"network: {attempt}, {n} times" for attempt, n in attempts.items()]
        after = state_of_repository()
        if None not in (self.before, after):
            problems += [f"repository: {line}, which was not so before" for line in sorted(after - self.before)]
            problems += [f"repository: {line}, no longer so" for line in sorted(self.before - after)]
        said = f"network: {guarded} processes guarded, {attempts.total()} attempts at anything but loopback"
        if meant:
            said += f", and {meant.total()} at names under .invalid, as tests meant"
        self.folder.cleanup()
        return said, problems


OFFLINE = pytest.StashKey[Session]()
SAID = pytest.StashKey[tuple[str, list[str]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # The workers of pytest-xdist, and a pytest that a test starts, are part of the run that they belong to.
    if "ALIKIT_OFFLINE_LOG" not in os.environ:
        config.stash[OFFLINE] = Session()


@pytest.hookimpl(trylast=True)  # when pytest-xdist has ended its workers
def pytest_sessionfinish(session):
    if OFFLINE in session.config.stash:
        session.config.stash[SAID] = session.config.stash[OFFLINE].end()
        if session.config.stash[SAID][1]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    said, problems = config.stash.get(SAID, (None, []))
    for line in (*problems, *filter(None, [said])):
        terminalreporter.write_line(line, red=line != said)
