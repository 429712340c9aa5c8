"""How long one waits: for the import, the first cell, a panel, the tests. `alikit bench start` writes what it finds."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tqdm import tqdm

from alikit.errors import AlikitError

from .common import ROOT, few, run, spread, summary, table

IMPORT_ROUNDS, SHARES_ROUNDS, NOTEBOOK_ROUNDS = 7, 3, 3
MODULES = ("torch", "alikit")
GOAL = 2.0  # seconds for `import alikit`, once its files are in memory
LISTED = 0.03  # of the time of an import: smaller shares go together
TESTS = ROOT / "build" / "tests.xml"  # written by make test
IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
TITLE = "Waiting"


def import_seconds(module: str) -> float:
    """Of the import alone, in a fresh process; Python's own start is before it."""
    return float(run(["-c", IMPORT.format(module)], f"import {module} failed").stdout)


def import_shares(module: str = "alikit") -> dict[str, float]:
    """Which packages' own code an import spends its time in, shares of it, the largest first."""
    own: dict[str, int] = {}
    said = run(["-X", "importtime", "-c", f"import {module}"], f"import {module} failed").stderr
    for line in said.splitlines():
        head, _, rest = line.partition("import time:")
        itself, *_, name = rest.split("|") if rest.count("|") == 2 else [""]
        if not head and itself.strip().isdigit():
            package = name.strip().partition(".")[0]
            package = "Python's own" if package in sys.stdlib_module_names else package
            own[package] = own.get(package, 0) + int(itself)
    total = sum(own.values())
    return dict(sorted(((name, part / total) for name, part in own.items()), key=lambda item: -item[1]))


def first_cell(path: Path) -> tuple[float, float]:
    """Seconds until a notebook's kernel is there, and until its first code cell has run. Its file stays as it is."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    index, cell = next((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=180,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else it warns that local sockets are not encrypted
    )
    begin = time.perf_counter()
    with client.setup_kernel():
        kernel = time.perf_counter() - begin
        client.execute_cell(cell, index)
        return kernel, time.perf_counter() - begin


def notebooks(folder: Path, rounds: int) -> list[dict] | None:
    """Every notebook of a folder, in turn; None without what runs them."""
    if importlib.util.find_spec("nbclient") is None:
        return None
    waits: dict[str, list[tuple[float, float]]] = {path.name: [] for path in sorted(folder.glob("*.ipynb"))}
    for _ in tqdm(range(rounds), unit=" rounds of notebooks", disable=None):
        for name, found in waits.items():
            found.append(first_cell(folder / name))
    return [
        {
            "notebook": name,
            "kernel": summary([kernel for kernel, _ in found]),
            "first_cell": summary([cell for _, cell in found]),
        }
        for name, found in waits.items()
    ]


def widgets() -> list[dict] | None:
    """What the browser tests find when they move a panel; None where there is no browser for them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "in_time", "tests/browser"]
        environment = {name: value for name, value in os.environ.items() if name != "ALIKIT_BROWSER"}
        subprocess.run([*command, f"--junitxml={file}"], cwd=ROOT, env=environment, capture_output=True)
        return answers(file) or None


def answers(file: Path) -> list[dict]:
    """Of a file of test results, the milliseconds that tests kept with their name. AlikitError where a test failed."""
    found = []
    for case in _results(file).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            raise AlikitError(f"{case.get('name')} fails: see what python -m pytest tests/browser says")
        for kept in case.iter("property"):
            if kept.get("name") == "milliseconds":
                panel = case.get("classname").rpartition("test_")[2].replace("_", " ")
                found.append({"panel": panel, "milliseconds": summary(json.loads(kept.get("value")))})
    return found


def tests(file: Path) -> dict | None:
    """What the last `make test` came to, of the file that it wrote; None without."""
    if not file.is_file():
        return None
    try:
        suite = next(_results(file).iter("testsuite"))
        counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        return {"seconds": float(suite.attrib["time"]), "date": suite.attrib["timestamp"][:10], **counts}
    except (StopIteration, LookupError, ValueError):
        raise _unreadable(file) from None


def _results(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        raise _unreadable(file) from None


def _unreadable(file: Path) -> AlikitError:
    return AlikitError(f"{file} holds no test results: run make test, or remove it")


def measure(
    import_rounds: int = IMPORT_ROUNDS,
    shares_rounds: int = SHARES_ROUNDS,
    notebook_rounds: int = NOTEBOOK_ROUNDS,
    folder: Path = ROOT / "notebooks",
    panels: bool = True,
) -> dict:
    """Imports in fresh processes, in turn and after one that is not counted; the rest as the functions above say."""
    found: dict[str, list[float]] = {module: [] for module in MODULES}
    for module in MODULES:
        import_seconds(module)
    for _ in range(import_rounds):
        for module in MODULES:
            found[module].append(import_seconds(module))
    rounds = [import_shares() for _ in range(shares_rounds)]
    mean = {name: round(sum(one.get(name, 0.0) for one in rounds) / len(rounds), 4) for name in rounds[0]}
    return {
        "imports": {module: summary(seconds) for module, seconds in found.items()},
        "import_rounds": import_rounds,
        "goal": GOAL,
        "shares": dict(sorted(mean.items(), key=lambda item: -item[1])),
        "notebook_rounds": notebook_rounds,
        "notebooks": notebooks(folder, notebook_rounds),
        "widgets": widgets() if panels else None,
        "tests": tests(TESTS),
    }


def told(found: dict) -> list[str]:
    seconds = {module: spread(found["imports"][module]) for module in MODULES}
    shares = [f"{name} {share:.0%}" for name, share in found["shares"].items() if share >= LISTED]
    rest = 1 - sum(share for share in found["shares"].values() if share >= LISTED)
    met = "met" if found["imports"]["alikit"]["median"] < found["goal"] else "missed"
    parts = [
        f"**Import.** `import alikit` takes {seconds['alikit']} s, `import torch` alone {seconds['torch']} s: median "
        f"and quartiles of {found['import_rounds']} fresh processes each, in turn, their files in memory. The goal, "
        f"under {few(found['goal'])} s, is {met} here. By Python's own account (`-X importtime`) the import of alikit "
        f"spends its time in the code of: {', '.join(shares)}, others {rest:.0%}.",
    ]
    if found["notebooks"] is None:
        parts.append("**Notebooks.** Left out: nbclient is not installed, which comes with JupyterLab.")
    else:
        rows = [[row["notebook"], spread(row["kernel"]), spread(row["first_cell"])] for row in found["notebooks"]]
        parts += [
            "**Notebooks.** From nothing until the kernel answers, and until the first code cell, which imports, has "
            f"run: median and quartiles of {found['notebook_rounds']} starts each, in turn.",
            table(["notebook", "kernel, s", "first cell, s"], rows),
        ]
    if found["widgets"] is None:
        parts.append("**Panels.** Left out: they are measured in Chromium by Playwright, and one of them is not here.")
    else:
        rows = [[row["panel"], spread(row["milliseconds"])] for row in found["widgets"]]
        parts += [
            "**Panels.** In JupyterLab in Chromium, from a key to the new picture in its place; as the tests in "
            "`tests/browser` move them.",
            table(["panel", "answer, ms"], rows),
        ]
    if found["tests"] is None:
        parts.append("**Tests.** Not measured: run `make test`, then `alikit bench start`.")
    else:
        t = found["tests"]
        bad = t["failures"] + t["errors"]
        parts.append(
            f"**Tests.** `make test` took {t['seconds'] / 60:.1f} minutes on {t['date']} for {t['tests']:,} tests, "
            f"skipped {t['skipped']}, failed {bad}; the two checks of style before them take seconds."
        )
    return parts
