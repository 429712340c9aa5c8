"""Every kind of file that is read, damaged in many ways: refused in one line, or read; see bad.py."""

import pytest
from bad import outcomes
from bad_kinds import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_bad_files_are_refused_in_one_line_or_read(name, tmp_path, record_property):
    found = outcomes(name, tmp_path)
    count = {outcome: sum(each[1] == outcome for each in found) for outcome in ("refused", "read", "failed")}
    record_property("bad input", {"kind": name, **count})
    failed = [f"{name}, {case}: {why}" for case, outcome, why in found if outcome == "failed"]
    assert not failed, "\n".join(failed)
    assert found[0][:2] == ("as it is", "read"), found[0]
    assert count["refused"] or KINDS[name].forgiven, "nothing was refused, so nothing was damaged"
