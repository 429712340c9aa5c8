"""For `make test`: the whole run stays on this machine and leaves the repository as it was, or else it fails."""

import os

import pytest

from tests.offline.session import Session

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
