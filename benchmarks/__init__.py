"""What alikit costs on this machine. `BENCHMARKS` lists every benchmark, `run` measures one and keeps what it finds.

    from pathlib import Path
    import benchmarks

    print(benchmarks.run("batch", Path("results/benchmarks"), "alikit bench batch", seconds=30.0))

They come with a checkout, not with the installed package. A new one is a function here, a row of the table, and a
section of results/benchmarks/README.md between two marks of its name.
"""

import inspect
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from alikit import runs
from alikit.errors import AlikitError

from . import common, memory, precision, report, scaling, speed, start, step


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    measure   returns what goes into NAME.json, beside the setting; the first sentence of its docstring is the help of
              the command line, and its keyword arguments are options
    threads   whether the number of threads is an option too; the others start processes of their own
    tables    makes the paragraphs of the page from the contents of the file: by default a table of its rows
    """

    measure: Callable
    threads: bool = False
    tables: Callable[[dict], list[str]] = report.rows

    @property
    def help(self) -> str:
        return inspect.getdoc(self.measure).partition("\n\n")[0].replace("\n", " ")


BENCHMARKS = {
    "step": Benchmark(step.compare, threads=True),
    "compiled": Benchmark(speed.compiled, threads=True),
    "precision": Benchmark(precision.precision, threads=True, tables=precision.tables),
    "batch": Benchmark(speed.batch, threads=True),
    "size": Benchmark(speed.size, threads=True),
    "workers": Benchmark(scaling.workers),
    "loading": Benchmark(scaling.loading),
    "memory": Benchmark(memory.memory),
    "folder": Benchmark(memory.folder),
    "start": Benchmark(start.start, tables=start.tables),
    "report": Benchmark(report.write_report),
}


def run(name: str, out: Path | None = None, command: str = "", **options: object) -> str:
    """Measures a benchmark and writes out/NAME.json. Returns the line to print.

    name      of `BENCHMARKS`; "step" takes recipe="svhn", and "report" only writes the page
    out       folder to keep it in; nothing is kept without one
    command   the command line, kept with the numbers so that they can be measured again
    options   of the benchmark, such as threads=1 or seconds=30.0; None and False mean the default

    Raises AlikitError for an unknown name or option, and if `out` cannot be written, before it measures.
    """
    if name not in BENCHMARKS:
        raise AlikitError(f"no benchmark called {name!r}: choose one of {', '.join(BENCHMARKS)}")
    one = BENCHMARKS[name]
    options = {option: value for option, value in options.items() if value is not None and value is not False}
    for option in options.keys() - {*inspect.signature(one.measure).parameters, *["threads"] * one.threads}:
        raise AlikitError(f"bench {name} takes no --{option}: leave it out")
    if name == "report":
        return f"{one.measure(out)} benchmarks in {out / 'README.md'}"
    if out:
        try:
            out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out).close()
        except OSError as error:
            raise AlikitError(f"cannot write to {out} ({error.strerror}): choose another --out") from None
    if threads := options.pop("threads", None):
        torch.set_num_threads(threads)
    setting = common.setting(command)  # before the benchmark loads the machine itself
    measured = one.measure(**options)
    if out:
        if name == "step":  # its options name its file: step-svhn-batch50-float32
            on = options.get("device", common.device()).replace("cpu", "")
            batch = f"batch{options['batch']}" if "batch" in options else ""
            parts = (name, options["recipe"], batch, "float32" if "float32" in options else "", on)
            name = "-".join(filter(None, parts))
        text = json.dumps(setting | measured, indent=1) + "\n"
        runs.write_whole(out / f"{name}.json", lambda file: file.write_text(text))
    if one.measure is step.compare or not out:
        return json.dumps(measured)
    return f"measured, in {out / name}.json; alikit bench report puts it on the page"
