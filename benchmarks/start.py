"""How long one waits: for the import, the first cell, a panel. `alikit bench start` writes what it finds."""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from tqdm import tqdm

from .common import ROOT, process, summary, table

MODULES = ("torch", "alikit")
GOAL = 2.0  # seconds for `import alikit`, once its files are in memory
LISTED = 0.03  # of the time of an import: smaller shares go together
IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"


def import_seconds(module: str) -> float:
    """Of the import alone, in a fresh process; Python's own start is before it."""
    return float(process("-c", IMPORT.format(module), failure=f"import {module} failed").stdout)


def import_shares(module: str = "alikit") -> dict[str, float]:
    """Which packages' own code an import spends its time in, as shares of it, the largest first."""
    own: Counter[str] = Counter()
    log = process("-X", "importtime", "-c", f"import {module}", failure=f"import {module} failed").stderr
    for line in log.splitlines():  # import time: microseconds of its own | with what it imports | name
        itself, _, name = line.removeprefix("import time:").split("|") if line.count("|") == 2 else ("", "", "")
        if itself.strip().isdigit():
            package = name.strip().partition(".")[0]
            own["Python's own" if package in sys.stdlib_module_names else package] += int(itself)
    return {name: part / own.total() for name, part in own.most_common()}


def first_cell(path: Path) -> tuple[float, float]:
    """Seconds until a notebook's kernel is there, and until its first code cell has run. Its file stays as it is."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    index, code = next((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    quiet = ["--IPKernelApp.log_level=ERROR"]  # otherwise it warns that local sockets are not encrypted
    where = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, kernel_name="python3", timeout=180, resources=where, extra_arguments=quiet)
    begin = time.perf_counter()
    with client.setup_kernel():
        kernel = time.perf_counter() - begin
        client.execute_cell(code, index)
        return kernel, time.perf_counter() - begin


def notebooks(folder: Path, rounds: int) -> list[dict]:
    """Every notebook of a folder, in turn."""
    paths = sorted(folder.glob("*.ipynb"))
    found = [[first_cell(path) for path in paths] for _ in tqdm(range(rounds), unit=" rounds", disable=None)]
    rows = []
    for path, waits in zip(paths, zip(*found, strict=True), strict=True):
        kernel, cell = (summary([*seconds]) for seconds in zip(*waits, strict=True))
        rows.append({"notebook": path.name, "kernel": kernel, "first_cell": cell})
    return rows


def widgets() -> list[dict]:
    """The milliseconds that the browser tests record for each panel when they move it; [] without a browser."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "in_time", "tests/browser")
        process(*command, f"--junitxml={file}", failure="a panel fails, see python -m pytest tests/browser")
        kept = [*ElementTree.parse(file).iter("property")]
    return [{"panel": one.get("name"), "milliseconds": summary(json.loads(one.get("value")))} for one in kept]


def start(
    import_rounds: int = 7, shares_rounds: int = 3, notebook_rounds: int = 3, notebook_folder: Path = ROOT / "notebooks"
) -> dict:
    """How long one waits: for the import, for each notebook's first cell, for a panel. Some minutes.

    Imports are in fresh processes, in turn and after one that is not counted.
    """
    rounds = [{module: import_seconds(module) for module in MODULES} for _ in range(1 + import_rounds)][1:]
    shares = [import_shares() for _ in range(shares_rounds)]
    mean = {name: round(sum(one.get(name, 0.0) for one in shares) / len(shares), 4) for name in shares[0]}
    return {
        "imports": {module: summary([one[module] for one in rounds]) for module in MODULES},
        "import_rounds": import_rounds,
        "goal": GOAL,
        "shares": dict(sorted(mean.items(), key=lambda item: -item[1])),
        "notebook_rounds": notebook_rounds,
        "notebooks": notebooks(notebook_folder, notebook_rounds),
        "widgets": widgets(),
    }


def tables(found: dict) -> list[str]:
    """Tables of imports, notebooks and panels."""
    listed = {name: share for name, share in found["shares"].items() if share >= LISTED}
    met = "met" if found["imports"]["alikit"]["median"] < found["goal"] else "missed"
    shares = [f"{name} {share:.0%}" for name, share in [*listed.items(), ("others", 1 - sum(listed.values()))]]
    return [
        table([{"import": name, "seconds": seconds} for name, seconds in found["imports"].items()]),
        f"The goal, under {found['goal']:g} s for alikit, is {met} here. Its import spends its time in the code of: "
        f"{', '.join(shares)}.",
        table(found["notebooks"]),
        table(found["widgets"]) if found["widgets"] else "Panels: left out, Playwright or Chromium is not installed.",
    ]
