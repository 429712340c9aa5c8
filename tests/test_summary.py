"""What is said of faults at the end, of reports as pytest makes them."""

from types import SimpleNamespace

import summary


def report(outcome: str, *recorded: tuple, when: str = "call", test: str = "tests/faults/test_kills.py::test_a_run"):
    return SimpleNamespace(when=when, outcome=outcome, user_properties=[*recorded], nodeid=test)


KILLED = ("kill", ["run", 1.234, "at step 20"])
REPORTS = [
    report("passed", KILLED),
    report("passed", KILLED, when="teardown"),  # carries what the call has recorded, once more
    report("failed", ("kill", ["study", 2.0, "all of its processes"])),
    report("passed", ("bad input", {"kind": "a picture", "refused": 1200, "read": 3, "failed": 0})),
    report("passed", ("bad input", {"kind": "a log", "refused": 5, "read": 0, "failed": 1})),
    report("skipped", when="setup"),
]


def test_pages_of_the_soak_count_each_test_once_and_other_tests_leave_them_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "PAGES", tmp_path)
    learner = "tests/notebooks/test_learner.py::test_a_section[02_toy_mixture-"
    for name in ("README.md", "notebooks.md"):
        (tmp_path / name).write_text("# Faults\n\n`pytest of before`\n")
    summary.keep([*REPORTS, report("passed", test="tests/test_recipes.py::test_losses[svhn]")], 120.0)
    assert all("of before" in page.read_text() for page in tmp_path.iterdir())
    summary.keep(REPORTS, 120.0)
    summary.keep([report("passed", ("stopped", 2), test=f"{learner}{number}]") for number in (1, 2)], 60.0)
    faults, notebooks = ((tmp_path / name).read_text() for name in ("README.md", "notebooks.md"))
    assert faults.startswith("# Faults\n\n`") and "of before" not in faults + notebooks and "; 2 minutes." in faults
    for line in (
        "- killed at random moments: 1 x run, 1 x study; 1 went on to the same end, 1 did not",
        "- bad input: 1,209 files of 2 kinds: 1,205 refused in one line, 3 read, 1 else",
        "| `tests/faults/test_kills.py` | 3 | passed |",
        "| `tests/faults/test_kills.py` | 1 | failed |",
        "| a log | 5 | 0 | 1 |",
    ):
        assert line in faults.splitlines(), line
    assert "- stopped: 4 cells of 2 notebooks\n" in notebooks
    assert notebooks.endswith("| a section 02 toy mixture | 2 | passed |\n")
    assert summary.lines([report("passed")]) == []
