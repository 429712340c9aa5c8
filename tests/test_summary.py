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
    report("passed", ("bad input", {"kind": "a log", "refused": 5, "read": 0, "failed": 1}), test="tests/b.py::test"),
    report("skipped", when="setup"),
]


def test_the_page_of_faults_counts_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "PAGES", tmp_path)
    (tmp_path / "README.md").write_text("# Faults\n\n`pytest of before`\n")
    summary.keep(REPORTS, 120.0)
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# Faults\n\n`") and "of before" not in page and "; 2 minutes." in page
    for line in (
        "- killed at random moments: 1 x run, 1 x study; 1 went on to the same end, 1 did not",
        "- bad input: 1,209 files of 2 kinds: 1,205 refused in one line, 3 read, 1 else",
        "| `tests/faults/test_kills.py` | 1 | failed |",
        "| `tests/faults/test_kills.py` | 2 | passed |",
        "| run | 1.23 s | at step 20 | ended as if it had not been |",
        "| study | 2.00 s | all of its processes | **did not end as it should** |",
        "| a log | 5 | 0 | 1 |",
    ):
        assert line in page.splitlines(), line
    assert summary.lines([report("passed")]) == []


def test_the_page_of_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "PAGES", tmp_path)
    learner = "tests/notebooks/test_learner.py::test_"
    reports = [report("passed", test=f"{learner}every_section[02_toy_mixture-{name}]") for name in ("1", "exercise 2")]
    reports += [
        report("failed", test=f"{learner}every_section[02_toy_mixture-3]"),
        report("passed", ("stopped", ["02_toy_mixture", 4]), test=f"{learner}stopped_wherever[02_toy_mixture]"),
        report("passed", test=f"{learner}training_imports_nothing"),
    ]
    summary.keep(reports, 120.0)
    assert (tmp_path / "notebooks.md").read_text().splitlines()[-3:] == [
        "| 02_toy_mixture | every section | 1 failed, 2 passed |",
        "| 02_toy_mixture | stopped wherever, 4 cells stopped | 1 passed |",
        "| of them all | training imports nothing | 1 passed |",
    ]
