"""What several tests of faults share: a run that nothing stopped."""

import pytest
from started import TRAIN, Started, finished


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Started:
    """The command of TRAIN, and its `run`, which nothing stopped or stood in the way of."""
    folder = tmp_path_factory.mktemp("whole")
    Started(folder, int).wait()  # the first process waits for all imports, which are no part of its `seconds`
    command = finished(TRAIN, folder)
    assert command.status == 0, command.err
    command.run = folder / "run"
    return command
