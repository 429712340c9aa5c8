"""The pages of `make soak`, from reports as pytest makes them."""

from types import SimpleNamespace

import summary


def report(outcome: str, *recorded: tuple, when: str = "call", test: str = "tests/faults/test_kills.py::test_a_run"):
    return SimpleNamespace(when=when, outcome=outcome, user_properties=[*recorded], nodeid=test)


def test_each_test_counts_once_and_other_tests_leave_the_pages_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "PAGES", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("# Faults\n\n`pytest of before`\n")
    killed, bad = ("kill", ["run", 1.2, "at step 20"]), {"kind": "a log", "refused": 1200, "read": 3, "failed": 1}
    reports = [
        report("passed", killed),
        report("passed", killed, when="teardown"),  # carries what the call has recorded, once more
        report("failed", ("kill", ["study", 2.0, "all of its processes"]), ("bad input", bad)),
    ]
    summary.keep([*reports, report("passed", test="tests/test_recipes.py::test_losses[svhn]")], 120.0)
    assert "of before" in page.read_text()
    summary.keep(reports, 120.0)
    text = page.read_text()
    assert text.startswith("# Faults\n\n`") and "of before" not in text and "; 2 minutes." in text
    for line in (
        "- killed at random moments: 1 x run, 1 x study; 1 went on to the same end, 1 did not",
        "- bad input: 1,204 files of 1 kinds: 1,200 refused in one line, 3 read, 1 else",
        "| `tests/faults/test_kills.py` | 1 | failed |",
        "| a log | 1200 | 3 | 1 |",
    ):
        assert line in text.splitlines(), line
