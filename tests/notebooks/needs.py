"""Which earlier sections a section of a notebook needs, by the names that its code defines and uses.

A section `## 3 · Title` holds the code cells below it, up to the next section; an exercise, wherever it stands, the
code of its folded solution. The first code cell, with the imports, belongs to none, and all need it.

A section needs the sections that its names come from: of each name that it uses and does not define before, the last
earlier section that defines it; and the sections that those need. A function needs what its body names when it is
called, so a section that calls one needs these names too. Names in a notebook are global: what is computed here is what
a run from top to bottom would find. Where a section further down gives such a name another meaning, whoever comes back
from there has to run the needed sections anew. Changes inside an object, as by training, have no name; what is stated
here is run by `test_learner.py`.
"""

import ast
import builtins
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nbformat
from solutions import code_of_solutions

SECTION = re.compile(r"## (\d+) · ")
EXERCISE = re.compile(r"### (?:Exercise )?(\d+)(?: ·|:) ")
HEADING = re.compile(r"^(#{2,3} .*)$", re.MULTILINE)
STATED = re.compile(r"\*Needs (?:no other section|sections? [^*]*)\.\*")


class Names(ast.NodeVisitor):
    """Of a piece of code, in the order in which it is evaluated: names used before they are defined, names defined,
    and for each function defined the names that its body uses when it is called."""

    def __init__(self, code: str):
        self.used: set[str] = set()
        self.defined: set[str] = set()
        self.bodies: dict[str, set[str]] = {}
        self.visit(ast.parse(code))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.use({node.id})
        else:
            self.define(node.id)

    def use(self, names: set[str]) -> None:
        self.used |= names - self.defined - vars(builtins).keys()

    def define(self, name: str) -> None:
        self.defined.add(name)
        self.bodies.pop(name, None)

    def visit_alias(self, node: ast.alias) -> None:
        self.define((node.asname or node.name).partition(".")[0])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.define(node.name)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for part in (node.value, *node.targets):
            self.visit(part)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use({node.target.id})
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in filter(None, (node.value, node.target)):
            self.visit(part)

    def visit_For(self, node: ast.For) -> None:
        for part in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(part)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        """Its loop's names are its own, what it uses besides is used at once."""
        inner = Names("")
        for loop in node.generators:
            for part in (loop.iter, loop.target, *loop.ifs):
                inner.visit(part)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            inner.visit(part)
        self.use(inner.used)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args):  # defaults
            self.visit(part)
        body = body_of(node)
        self.define(node.name)
        self.bodies[node.name] = body - {node.name}

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Called where it stands, or kept under a name: either way what it uses is needed."""
        self.visit(node.args)
        self.use(body_of(node))

    def visit_arg(self, node: ast.arg) -> None:
        pass  # a parameter is no name of the cell

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        inner = Names("")
        for part in node.body:
            inner.visit(part)
        self.use(inner.used)
        self.define(node.name)
        self.bodies[node.name] = set().union(*inner.bodies.values()) - {node.name}


def body_of(function: ast.FunctionDef | ast.Lambda) -> set[str]:
    """The names that a function takes from outside when it is called."""
    inner = Names("")
    arguments = function.args
    for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if argument:
            inner.define(argument.arg)
    for part in function.body if isinstance(function.body, list) else [function.body]:
        inner.visit(part)
    local = inner.defined
    return set().union(inner.used, *inner.bodies.values()) - local - vars(builtins).keys()


@dataclass
class Part:
    """A section or an exercise. `needs` are sections; after those in `overwrite` they are to be run anew."""

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
        """The line that should stand there. Where nothing is run, none."""
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
    takers: dict[str, list[Part]] = {}  # of each name, who takes it from that section
    for part in parts:
        names = part.names
        wanted = set()
        queue = [*names.used, *(name for body in names.bodies.values() for name in body - names.defined)]
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
