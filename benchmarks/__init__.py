"""What alikit costs on this machine. `BENCHMARKS` lists every benchmark, `run` measures one and keeps what it finds.

    from pathlib import Path
    import benchmarks

    print(benchmarks.run("batch", Path("results/benchmarks"), "alikit bench batch", seconds=30.0))

They come with a checkout, not with the installed package. A new one is a function here, a row of the table, and a
section of results/benchmarks/README.md between two marks of its name.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from alikit.errors import AlikitError

from . import common, memory, precision, report, scaling, speed, start, step


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    measure   gives what goes into NAME.json, beside the setting; the first sentence of its docstring is the help of the
              command line, and its keyword arguments are options
    options   those that the command line offers, besides --out
    curves    of NAME.png, as arguments of `common.curves` after the rows; None where there are none
    tables    gives the paragraphs of the page, from the contents of the file alone: by default a table of its rows
    """

    measure: Callable
    options: tuple[str, ...] = ()
    curves: tuple | None = None
    tables: Callable[[dict], list[str]] = report.rows

    @property
    def help(self) -> str:
        return inspect.getdoc(self.measure).partition("\n\n")[0].replace("\n", " ")


TIMED = ("threads", "seconds")
BENCHMARKS = {
    "step": Benchmark(step.compare, ("recipe", "batch", "device", "float32", *TIMED)),
    "compiled": Benchmark(speed.compiled, TIMED),
    "precision": Benchmark(precision.precision, ("threads",), tables=precision.tables),
    "batch": Benchmark(speed.batch, TIMED, ("batch", ["images_per_second"], "recipe")),
    "size": Benchmark(speed.size, TIMED, ("size", ["images_per_second"], "recipe")),
    "workers": Benchmark(scaling.workers, curves=("workers", ["seconds"])),
    "loading": Benchmark(scaling.loading, curves=("pictures", ["first", "cached"])),
    "memory": Benchmark(memory.memory),
    "folder": Benchmark(memory.folder),
    "start": Benchmark(start.start, tables=start.tables),
    "report": Benchmark(report.write_report),
}


def run(name: str, out: Path | None = None, command: str = "", **options: object) -> str:
    """Measures a benchmark and writes out/NAME.json, and NAME.png where it has curves. Returns the line to print.

    name      of `BENCHMARKS`; "step" takes recipe="svhn", and "report" only writes the page
    out       folder to keep it in; without one, nothing is kept
    command   the command line, kept with the numbers so that they can be measured again
    options   those that the benchmark takes, as threads=1 or seconds=30.0; None and False leave one out

    Raises AlikitError for a name or an option that there is not, and where `out` cannot be written, before anything is
    measured.
    """
    if name not in BENCHMARKS:
        raise AlikitError(f"no benchmark called {name!r}: choose one of {', '.join(BENCHMARKS)}")
    one = BENCHMARKS[name]
    options = {option: value for option, value in options.items() if value is not None and value is not False}
    for option in options.keys() - {*one.options, *inspect.signature(one.measure).parameters}:
        raise AlikitError(f"bench {name} takes no --{option}: leave it out")
    if name == "report":
        count = one.measure(out)
        return f"{count} benchmark{'' if count == 1 else 's'} in {out / 'README.md'}"
    if out:
        common.check_writable(out)
    if threads := options.pop("threads", None):
        torch.set_num_threads(threads)
    setting = common.setting(command)  # before the benchmark loads the machine itself
    measured = one.measure(**options)
    if out:
        if name == "step":  # its file is called by its options: step-svhn-batch50-float32
            on = options.get("device", common.device()).replace("cpu", "")
            batch = f"batch{options['batch']}" if "batch" in options else ""
            name = "-".join(
                filter(None, [name, options["recipe"], batch, "float32" if "float32" in options else "", on])
            )
        common.write(out / f"{name}.json", setting | measured)
        if one.curves:
            common.curves(out / f"{name}.png", measured["measured"], *one.curves)
    if one is BENCHMARKS["step"] or not out:
        return json.dumps(measured)
    return f"measured, in {out / name}.json; alikit bench report puts it on the page"
