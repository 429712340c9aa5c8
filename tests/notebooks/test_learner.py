"""What a learner does to a notebook: runs it again, stops what takes long, restarts and goes on in the middle.

`make test` does so in small. With ALIKIT_SOAK=1 in the environment everything is done to all notebooks:
`ALIKIT_SOAK=1 .venv/bin/python -m pytest tests/notebooks/test_learner.py`.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel
from nbval.plugin import find_comment_markers
from test_needs import parts_of
from test_notebooks import NOTEBOOKS, code_cells, every_notebook, sanitize

SOAK = "ALIKIT_SOAK" in os.environ
MOMENT = 1.5  # seconds after which a cell counts as one that takes long


class Kernel:
    """A kernel as JupyterLab starts it for a notebook."""

    def __init__(self):
        quiet = ["--IPKernelApp.log_level=ERROR"]
        folder = str(NOTEBOOKS[0].parent)
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=folder, extra_arguments=quiet)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, stop: float | None = None) -> str | None:
        """What a cell prints, as text; with `stop` it is interrupted after so many seconds, and None if it had not
        ended by then.

        Python may lose an interrupt that comes while an object is being thrown away; it then says so on stderr.
        """
        printed, complained = [], []

        def hear(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] in ("stream", "execute_result", "display_data"):
                heard = complained if content.get("name") == "stderr" else printed
                heard.append(content.get("text") or content["data"].get("text/plain", ""))

        interrupt = threading.Timer(stop or 0, self.manager.interrupt_kernel)
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
        return sanitize("".join(printed))


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


def run_alone(kernel: Kernel, path: Path, name: str) -> None:
    """After a restart: the first code cell, the sections that the part of this name says it needs, the part."""
    first, parts = parts_of(path)
    (part,) = (part for part in parts if part.name == name)
    needed = [other for other in parts if other.is_section and int(other.name) in part.needs]
    for code in (first, *(code for each in (*needed, part) for code in each.code)):
        kernel.run(code)


# Everything in a soak; otherwise no test, for many skipped ones would hide one that counts.
PARTS = [(path, part.name) for path in NOTEBOOKS for part in parts_of(path)[1] if part.code]
PARTS = PARTS if SOAK else [(NOTEBOOKS[1], "5")]


@pytest.mark.parametrize(("path", "name"), PARTS, ids=[f"{path.stem}-{name}" for path, name in PARTS])
def test_every_section_and_exercise_after_a_restart(kernel, path, name):
    run_alone(kernel, path, name)


if SOAK:

    @every_notebook
    def test_stopped_wherever_it_takes_long_gone_on_with_and_run_again_from_the_top(kernel, path, record_property):
        stored, stopped = {}, 0  # what each cell printed when the notebook was stored, unless it is not compared
        for cell in code_cells(path):
            texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
            if dict(find_comment_markers(cell.source)).get("check") is not False:
                stored[cell.source] = sanitize("".join(texts))
            printed = kernel.run(cell.source, stop=MOMENT if cell.execution_count > 1 else None)
            if printed is None:
                stopped += 1
                printed = kernel.run(cell.source)
            assert stored.get(cell.source, printed) == printed, cell.source
        assert stopped, "nothing in it takes long"
        record_property("stopped", stopped)
        for cell in code_cells(path):
            printed = kernel.run(cell.source)
            assert stored.get(cell.source, printed) == printed, cell.source


def test_the_first_optimiser_and_training_are_stopped_and_run_again(kernel):
    """An import that is interrupted leaves half of its modules behind, and every later one would fail."""
    kernel.run("import torch\nimport alikit\nassert 'torch._dynamo' not in __import__('sys').modules")
    cell = "torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).step()"
    assert kernel.run(cell, stop=0.2) is None
    kernel.run(cell, stop=0.2)  # which a quick machine finishes
    kernel.run(cell)
    assert kernel.run("print(torch.compile(lambda x: x, backend='eager')(torch.ones(1)))") == "tensor([1.])\n"

    first, parts = parts_of(NOTEBOOKS[3])
    (section,) = (part for part in parts if part.is_section and ".run(recipe.steps" in part.code[0])
    assert not section.needs
    kernel.run(first)
    assert any(kernel.run(section.code[0], stop=MOMENT) is None for _ in range(3))
    shorter = "dataclasses.replace(alikit.RECIPES['digits'], steps=50)"  # what is trained is not compared
    kernel.run(f"import dataclasses; alikit.RECIPES['digits'] = {shorter}")
    for code in (first, section.code[0]):
        kernel.run(code)
