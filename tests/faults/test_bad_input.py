"""Every kind of file that is read, damaged in many ways: refused in one line, or read; see bad.py."""

import pytest
from bad import Nursery
from bad_kinds import KINDS


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_are_refused_in_one_line_or_read(kind, nursery, record_property):
    outcomes = nursery.outcomes(kind)
    count = {
        outcome: sum(found["outcome"] == outcome for found in outcomes) for outcome in ("refused", "read", "failed")
    }
    record_property("bad input", {"kind": kind, **count})
    failed = [f"{kind}, {found['case']}: {found['why']}" for found in outcomes if found["outcome"] == "failed"]
    assert not failed, "\n".join(failed)
    assert outcomes[0]["case"] == "as it is" and outcomes[0]["outcome"] == "read", outcomes[0]
    assert count["refused"] or KINDS[kind].forgiven, "nothing was refused, so nothing was damaged"
