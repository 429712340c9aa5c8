"""What a section says it needs is what its code needs: no section less, and none more."""

import nbformat
import pytest
from needs import Names, Part, find_needs, parts_of
from test_notebooks import NOTEBOOKS, every_notebook


@every_notebook
def test_each_section_and_exercise_says_what_it_needs(path):
    _, parts = parts_of(path)
    assert {part.heading: part.stated for part in parts} == {part.heading: part.line for part in parts}


def test_all_say_the_same_of_a_restart():
    notes = {nbformat.read(path, as_version=4).cells[0].source.rpartition("\n\n**")[2] for path in NOTEBOOKS}
    assert len(notes) == 1 and notes.pop().startswith("After a restart**, or to come back to a section")


@every_notebook
def test_what_the_first_cell_imports_keeps_its_meaning(path):
    first, parts = parts_of(path)
    for part in parts:
        assert not part.names.defined & Names(first).defined, part.heading


@pytest.mark.parametrize(
    ("code", "used", "defined"),
    [
        ("y = x; z = y", "x", "y z"),
        ("x = x", "x", "x"),
        ("x += 1", "x", "x"),
        ("x.a = y[0] = 1", "x y", ""),
        ("for i in a: b = i\nelse: c = d", "a d", "i b c"),
        ("with a as b, b as c: pass", "a", "b c"),
        ("try: a\nexcept b as c: c", "a b", "c"),
        ("import a.b, c as d\nfrom e import f", "", "a d f"),
        ("[i for i in a if i > b for j in i if c]", "a b c", ""),
        ("{k: v for k, v in a}, {s for s in t}, (g for g in h)", "a t h", ""),
        ("(y := x), y", "x", "y"),
        ("sorted(a, key=lambda v, w=b: v + c + w)", "a b c", ""),
        ("print(f'{a:{b}}', len(c))", "a b c", ""),
        ("def f(a, *b, c=d, **e): return a, b, c, e, g, f\ng = 1", "d", "f g"),
        ("@a\nclass C(b):\n    c = d\n    def m(self): return e, self.c", "a b d", "C"),
        ("a: b = c", "c", "a"),
    ],
)
def test_names_used_and_defined(code, used, defined):
    names = Names(code)
    assert (names.used, names.defined) == (set(used.split()), set(defined.split()))


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("def f(a):\n    b = a + c\n    return [d for d in b if e]", "c e"),
        ("def f():\n    def g(a): return a + b\n    return g(c)", "b c"),
        ("def f():\n    return g(lambda a: a + b)", "g b"),
        ("class f:\n    a = 1\n    def m(self): return b", "b"),
    ],
)
def test_what_a_call_uses(code, body):
    assert Names(code).bodies == {"f": set(body.split())}


def needs(first: str, *sections: str, exercise: str | None = None) -> list[str]:
    parts = [Part(str(number), "", "", [code]) for number, code in enumerate(sections, 1)]
    if exercise is not None:
        parts.append(Part("exercise 1", "", "", [exercise]))
    find_needs(first, parts)
    return [part.line for part in parts]


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (["a = b"], ["no other section"]),
        (["x = 1", "x", "y = 1"], ["no other section", "section 1", "no other section"]),
        (["x = 1", "y = x", "y"], ["no other section", "section 1", "sections 1 and 2"]),
        (["x = 1", "x = 2", "y = x"], ["no other section", "no other section", "section 2"]),
        (["x = 1", "x = x + 1"], ["no other section", "section 1"]),
        (
            ["x = 1", "x", "x = 2"],
            ["no other section", "section 1, run again if section 3 ran since", "no other section"],
        ),
        (["def f(): return x\nx = 1", "f()"], ["no other section", "section 1"]),
        (
            ["def f(): return x\nx = 1", "x = 2", "f()"],
            ["no other section", "no other section", "sections 1 and 2"],
        ),
        (["def f(): return g()", "def g(): return 1", "f()"], None),
    ],
)
def test_needs(sections, lines):
    if lines is None:
        with pytest.raises(AssertionError, match="nothing before it defines g"):
            needs("b = 1", *sections)
    else:
        assert needs("b = 1", *sections) == [f"*Needs {line}.*" for line in lines]


def test_what_an_exercise_defines_is_no_sections():
    assert needs("", "x = 1", exercise="y = x") == ["*Needs no other section.*", "*Needs section 1.*"]
    parts = [Part("exercise 1", "", "", ["x = 1"]), Part("1", "", "", ["x"])]
    with pytest.raises(AssertionError, match="nothing before it defines x"):
        find_needs("", parts)
