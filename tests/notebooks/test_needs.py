"""What a section says it needs is what its code needs: which earlier sections, by the names that it defines and uses.

A section `## 3 · Title` holds the code cells below it, up to the next section; an exercise, wherever it stands, the
code of its folded solution. The first code cell, with the imports, belongs to none, and all need it.

A section needs the last earlier section that defines a name which it uses and does not define before, and what that one
needs. The names in a function's body are used where it is defined, and again wherever its name is. If a section further
down gives such a name another meaning, a reader who comes back from there has to run the needed sections again. Changes
inside an object, as by training, have no name; `test_learner.py` runs what is stated here.
"""

import builtins
import dis
import re
from dataclasses import dataclass, field
from pathlib import Path
from symtable import SymbolTable, symtable

import nbformat
from solutions import code_of_solutions
from test_notebooks import NOTEBOOKS, every_notebook

SECTION = re.compile(r"## (\d+) · ")
EXERCISE = re.compile(r"### (?:Exercise )?(\d+)(?: ·|:) ")
HEADING = re.compile(r"^(#{2,3} .*)$", re.MULTILINE)
STATED = re.compile(r"\*Needs (?:no other section|sections? [^*]*)\.\*")


def reads(table: SymbolTable) -> set[str]:
    """The global names in a function or class, and in those inside it."""
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()} - vars(builtins).keys()
    return own.union(*map(reads, table.get_children()))


class Names:
    """Of code: names `used` before they are defined, names `defined`, and of each function what is in its body."""

    def __init__(self, code: str):
        used, self.defined, inner = set(), set(), symtable(code, "cell", "exec").get_children()
        for instruction in dis.get_instructions(compile(code, "cell", "exec")):
            if instruction.opname == "LOAD_NAME":
                used |= {instruction.argval} - self.defined - vars(builtins).keys()
            elif instruction.opname == "STORE_NAME":
                self.defined.add(instruction.argval)
        self.bodies = {table.get_name(): reads(table) for table in inner}
        self.used = used.union(*map(reads, inner)) - (self.defined - used)


@dataclass
class Part:
    """A section or an exercise. `needs` are sections; after those in `overwrite` they have to run again."""

    name: str
    heading: str
    text: str
    code: list[str] = field(default_factory=list)
    needs: set[int] = field(default_factory=set)
    overwrite: set[int] = field(default_factory=set)

    @property
    def is_section(self) -> bool:
        return self.name.isdigit()

    @property
    def stated(self) -> str | None:
        """The line below the heading that says what is needed, None without one."""
        found = STATED.match(self.text.strip())
        return found and found[0]

    @property
    def line(self) -> str | None:
        """The line that should stand there, None if nothing is run."""
        anew = f", run again if {listed(self.overwrite)} ran since" if self.overwrite else ""
        return f"*Needs {listed(self.needs)}{anew}.*" if self.code else None


def listed(numbers: set[int]) -> str:
    """ "section 2", "sections 1, 2 and 5"."""
    if not numbers:
        return "no other section"
    *most, last = map(str, sorted(numbers))
    return f"sections {', '.join(most)} and {last}" if most else f"section {last}"


def parts_of(path: Path) -> tuple[str, list[Part]]:
    """The first code cell, and the sections and exercises in their order, with what each needs."""
    first, parts, section, exercise = None, [], None, None
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            if first is None:
                first = cell.source
            else:
                section.code.append(cell.source)
            continue
        before, *headed = HEADING.split(cell.source)
        if solutions := code_of_solutions(before):
            exercise.code += solutions
        for heading, text in zip(headed[::2], headed[1::2], strict=True):
            if number := SECTION.match(heading):
                section = Part(number[1], heading, text)
                parts.append(section)
            elif number := EXERCISE.match(heading):
                exercise = Part(f"exercise {number[1]}", heading, text, code_of_solutions(text))
                parts.append(exercise)
    find_needs(first, parts)
    return first, parts


def find_needs(first: str, parts: list[Part]) -> None:
    imported = Names(first).defined
    origin: dict[str, Part] = {}  # of each name, the last section so far that defines it
    bodies: dict[str, set[str]] = {}  # of the functions as they stand so far
    takers: dict[str, list[Part]] = {}  # of each name, the parts that take it from that section
    for part in parts:
        names, wanted = Names("\n".join(part.code)), set()
        assert not names.defined & imported, f"{part.heading} changes what the first cell imports"
        queue = [*names.used]
        while queue:
            if (name := queue.pop()) not in wanted | imported:
                wanted.add(name)
                queue += bodies.get(name, set()) - names.defined
        for name in wanted:
            assert name in origin, f"{part.heading}: nothing before it defines {name}"
            part.needs |= {int(origin[name].name), *origin[name].needs}
            takers.setdefault(name, []).append(part)
        if part.is_section:
            for name in names.defined:
                for taker in takers.pop(name, ()):
                    taker.overwrite |= {int(part.name)} - {int(taker.name) if taker.is_section else 0}
                origin[name] = part
                bodies[name] = names.bodies.get(name, set())


@every_notebook
def test_each_section_and_exercise_says_what_it_needs_and_leaves_the_imports_alone(path):
    _, parts = parts_of(path)
    assert {part.heading: part.stated for part in parts} == {part.heading: part.line for part in parts}


def test_all_say_the_same_of_a_restart():
    notes = {nbformat.read(path, as_version=4).cells[0].source.rpartition("\n\n**")[2] for path in NOTEBOOKS}
    assert len(notes) == 1 and notes.pop().startswith("After a restart**, or to come back to a section")
