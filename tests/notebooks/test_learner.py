"""What a learner does to a notebook: runs it again, stops what takes long, restarts and goes on in the middle.

`make test` does so in small. With ALIKIT_SOAK=1 in the environment everything is done to all notebooks:
`ALIKIT_SOAK=1 .venv/bin/python -m pytest tests/notebooks/test_learner.py`.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbval.plugin import find_comment_markers
from needs import Part, parts_of
from test_notebooks import NOTEBOOKS, every_notebook, sanitize

MOMENT = 1.5  # seconds after which a cell counts as one that takes long


def soak(test: Callable) -> Callable | None:
    """Of a test that takes long and is not there unless asked for: many skipped ones would hide one that counts."""
    return test if "ALIKIT_SOAK" in os.environ else None


class Kernel:
    """A kernel as JupyterLab starts it for a notebook."""

    def __init__(self):
        quiet = ["--IPKernelApp.log_level=ERROR"]
        folder = str(NOTEBOOKS[0].parent)
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=folder, extra_arguments=quiet)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, stop: bool = False) -> str | None:
        """What a cell says, as text; with `stop` it is interrupted after a moment, and None if that was too soon.

        Python may lose an interrupt, if it comes while an object is being thrown away; it then says so on stderr.
        """
        said, complained = [], []

        def hear(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] in ("stream", "execute_result", "display_data"):
                heard = complained if content.get("name") == "stderr" else said
                heard.append(content.get("text") or content["data"].get("text/plain", ""))

        interrupt = threading.Timer(MOMENT, self.manager.interrupt_kernel)
        if stop:
            interrupt.start()
        # Otherwise a kernel turns away for a while what comes after a cell that failed.
        how = {"allow_stdin": False, "stop_on_error": False, "timeout": 600}
        reply = self.client.execute_interactive(code, output_hook=hear, **how)["content"]
        interrupt.cancel()
        if stop and reply.get("ename") == "KeyboardInterrupt":
            return None
        assert reply["status"] == "ok", f"{code}\nfailed: {reply['ename']}: {reply['evalue']}"
        assert stop or not complained, f"{code}\nwrote to stderr:\n{''.join(complained)}"
        return sanitize("".join(said))


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


def code_and_stored(path: Path) -> list[tuple[str, str | None]]:
    """The code cells, and what each said when the notebook was stored; None where that is marked as not compared."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
            unmarked = dict(find_comment_markers(cell.source)).get("check") is not False
            found.append((cell.source, sanitize("".join(texts)) if unmarked else None))
    return found


def run_alone(kernel: Kernel, first: str, parts: list[Part], part: Part) -> None:
    """After a restart: the first code cell, what the part says it needs, the part."""
    kernel.run(first)
    for needed in (*(other for other in parts if other.is_section and int(other.name) in part.needs), part):
        for code in needed.code:
            kernel.run(code)


ALL_PARTS = [(path, part.name) for path in NOTEBOOKS for part in parts_of(path)[1] if part.code]


@soak
@pytest.mark.parametrize(("path", "name"), ALL_PARTS, ids=[f"{path.stem}-{name}" for path, name in ALL_PARTS])
def test_every_section_and_exercise_after_a_restart(kernel, path, name):
    first, parts = parts_of(path)
    run_alone(kernel, first, parts, next(part for part in parts if part.name == name))


@soak
@every_notebook
def test_stopped_wherever_it_takes_long_gone_on_with_and_run_again_from_the_top(kernel, path, record_property):
    first, *others = code_and_stored(path)
    kernel.run(first[0])
    stopped = 0
    for code, stored in others:
        said = kernel.run(code, stop=True)
        if said is None:
            stopped += 1
            said = kernel.run(code)
        assert stored in (None, said), code
    assert stopped, "nothing in it takes long"
    record_property("stopped", [path.stem, stopped])
    for code, stored in (first, *others):
        assert stored in (None, kernel.run(code)), code


ONE_STEP = """
import sys
import torch
import torch._dynamo
import alikit

train, _ = alikit.load("digits")
recipe = alikit.RECIPES["digits"]
model = recipe.build(train.shape, train.mean())
before = set(sys.modules)
recipe.trainer(model, train).run(1)
print(sorted(sys.modules.keys() - before))
"""


def test_training_imports_nothing_that_the_first_cell_has_not():
    """An import that is interrupted leaves half of its modules behind, and fails from then on."""
    for path in NOTEBOOKS:
        assert "\nimport torch._dynamo" in code_and_stored(path)[0][0], path.name
    assert subprocess.run([sys.executable, "-c", ONE_STEP], capture_output=True, text=True).stdout == "[]\n"


def test_a_section_after_a_restart(kernel):
    first, parts = parts_of(NOTEBOOKS[1])
    part = next(part for part in parts if part.name == "5")
    assert part.needs == {1}
    run_alone(kernel, first, parts, part)


def test_training_is_stopped_and_the_notebook_run_from_the_top(kernel):
    """Up to its one long cell, which is stopped; then from the top to the end, and what is quick a third time."""
    cells = code_and_stored(NOTEBOOKS[3])
    (long,) = (number for number, (code, _) in enumerate(cells) if ".run(recipe.steps" in code)
    for code, _ in cells[:long]:
        kernel.run(code)
    assert any(kernel.run(cells[long][0], stop=True) is None for _ in range(3))
    for code, stored in (*cells, *cells[:long], *cells[long + 1 :]):
        assert stored in (None, kernel.run(code)), code
