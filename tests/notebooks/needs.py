"""Which earlier sections a section of a notebook needs, by the names that its code defines and uses.

A section `## 3 · Title` holds the code cells below it, up to the next section; an exercise, wherever it stands, the
code of its folded solution. The first code cell, with the imports, belongs to none, and all need it.

A section needs the sections that its names come from: for each name that it uses and does not define before, the last
earlier section that defines it; and what those sections need. A function needs the names in its body when it is
called, so a section that calls it needs these names too. Names in a notebook are global: what is computed here is what
a run from top to bottom would find. If a section further down gives such a name another meaning, a reader who comes
back from there has to run the needed sections again. Changes inside an object, as by training, have no name;
`test_learner.py` runs what is stated here.
"""

import builtins
import dis
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import CodeType

import nbformat
from solutions import code_of_solutions

SECTION = re.compile(r"## (\d+) · ")
EXERCISE = re.compile(r"### (?:Exercise )?(\d+)(?: ·|:) ")
HEADING = re.compile(r"^(#{2,3} .*)$", re.MULTILINE)
STATED = re.compile(r"\*Needs (?:no other section|sections? [^*]*)\.\*")


def reads(code: CodeType) -> set[str]:
    """The global names that a function uses when it is called, its inner functions too."""
    found = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return (
        found.union(*(reads(inner) for inner in code.co_consts if isinstance(inner, CodeType))) - vars(builtins).keys()
    )


class Names:
    """Of a piece of code, by its bytecode: global names used before they are defined, names defined, and for each
    function or class defined the global names that it uses when it is called."""

    def __init__(self, code: str | CodeType):
        self.used: set[str] = set()
        self.defined: set[str] = set()
        self.bodies: dict[str, set[str]] = {}
        body, is_class = None, False  # what a function or class that is being made uses when it is called
        for instruction in dis.get_instructions(compile(code, "cell", "exec") if isinstance(code, str) else code):
            kind, name = instruction.opname, instruction.argval
            if kind in ("LOAD_NAME", "LOAD_GLOBAL"):
                self.use({name})
            elif kind in ("STORE_NAME", "STORE_GLOBAL"):
                self.defined.add(name)
                self.bodies.pop(name, None)
                if body is not None:
                    self.bodies[name], body = body - {name}, None
            elif isinstance(name, CodeType) and is_class:
                inner = Names(name)
                self.use(inner.used)
                body = inner.called()
            elif isinstance(name, CodeType) and name.co_name.startswith("<"):  # a comprehension or lambda
                self.use(reads(name))
            elif isinstance(name, CodeType):
                body = reads(name)
            is_class = kind == "LOAD_BUILD_CLASS"

    def use(self, names: set[str]) -> None:
        self.used |= names - self.defined - vars(builtins).keys()

    def called(self) -> set[str]:
        """What the functions in it use when they are called."""
        return set().union(*self.bodies.values())


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

    @cached_property
    def names(self) -> Names:
        return Names("\n".join(self.code))

    @property
    def stated(self) -> str | None:
        """The line below the heading that says what is needed, None without one."""
        found = STATED.match(self.text.strip())
        return found and found[0]

    @property
    def line(self) -> str | None:
        """The line that should stand there, None if nothing is run."""
        if not self.code:
            return None
        anew = f", run again if {listed(self.overwrite)} ran since" if self.overwrite else ""
        return f"*Needs {listed(self.needs)}{anew}.*"


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
        names, wanted = part.names, set()
        queue = [*names.used, *(names.called() - names.defined)]
        while queue:
            name = queue.pop()
            if name not in wanted | imported:
                wanted.add(name)
                queue += bodies.get(name, ())
        for name in wanted - (names.defined - names.used):
            assert name in origin, f"{part.heading}: nothing before it defines {name}"
            part.needs |= {int(origin[name].name), *origin[name].needs}
            takers.setdefault(name, []).append(part)
        if part.is_section:
            for name in names.defined:
                for taker in takers.pop(name, ()):
                    taker.overwrite |= {int(part.name)} - {int(taker.name) if taker.is_section else 0}
                origin[name] = part
                bodies.pop(name, None)
            bodies |= names.bodies
