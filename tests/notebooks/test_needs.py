"""What a section says it needs is what its code needs: no section less, and none more."""

import nbformat
import pytest
from needs import Names, Part, find_needs, parts_of
from test_notebooks import NOTEBOOKS, every_notebook


@every_notebook
def test_each_section_and_exercise_says_what_it_needs_and_leaves_the_imports_alone(path):
    first, parts = parts_of(path)
    assert {part.heading: part.stated for part in parts} == {part.heading: part.line for part in parts}
    for part in parts:
        assert not part.names.defined & Names(first).defined, part.heading


def test_all_say_the_same_of_a_restart():
    notes = {nbformat.read(path, as_version=4).cells[0].source.rpartition("\n\n**")[2] for path in NOTEBOOKS}
    assert len(notes) == 1 and notes.pop().startswith("After a restart**, or to come back to a section")


@pytest.mark.parametrize(
    ("code", "used", "defined"),
    [
        ("x = x; y = x; z = y", "x", "x y z"),
        ("x += 1; v.a = w[0] = 1", "x v w", "x"),
        ("for i in a: b = i\nwith c as d: pass\ntry: e\nexcept f as g: g", "a c e f", "i b d g"),
        ("import a.b, c as d\nfrom e import f", "", "a d f"),
        ("[i for i in a if i > b for j in i], {k: v for k, v in c}, (g for g in d)", "a b c d", ""),
        ("sorted(a, key=lambda v, w=b: v + c + w), (y := x), y", "a b c x", "y"),
        ("print(f'{a:{b}}', len(c))", "a b c", ""),
        ("def f(a, *b, c=d, **e): return a, b, c, e, g, f\ng = 1", "d", "f g"),
        ("@a\nclass C(b):\n    c = d\n    def m(self): return e, self.c, c", "a b d", "C"),
    ],
)
def test_names_used_and_defined(code, used, defined):
    names = Names(code)
    assert (names.used, names.defined) == (set(used.split()), set(defined.split()))


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("def f(a):\n    b = a + c\n    return [d for d in b if e]", "c e"),
        ("def f():\n    def g(a): return a + b\n    return g(c), h(lambda a: a + d)", "b c d h"),
        ("class f:\n    a = 1\n    def m(self): return b", "b"),
    ],
)
def test_what_a_call_uses(code, body):
    assert Names(code).bodies == {"f": set(body.split())}


NO = "no other section"


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        (["x = b", "x", "y = 1"], [NO, "section 1", NO]),
        (["x = 1", "y = x", "y"], [NO, "section 1", "sections 1 and 2"]),
        (["x = 1", "x = 2", "y = x"], [NO, NO, "section 2"]),
        (["x = 1", "x = x + 1"], [NO, "section 1"]),
        (["x = 1", "x", "x = 2"], [NO, "section 1, run again if section 3 ran since", NO]),
        (["def f(): return x\nx = 1", "x = 2", "f()"], [NO, NO, "sections 1 and 2"]),
    ],
)
def test_needs_and_what_an_exercise_defines_is_no_sections(sections, lines):
    parts = [Part(str(number), "", "", [code]) for number, code in enumerate(sections, 1)]
    parts.insert(1, Part("exercise 1", "", "", ["x = y = 3"]))
    find_needs("b = 1", parts)
    assert [part.line for part in parts if part.is_section] == [f"*Needs {line}.*" for line in lines]


def test_a_name_that_nothing_defines():
    parts = [
        Part("1", "", "", ["def f(): return g()"]),
        Part("exercise 1", "", "", ["g = 1"]),
        Part("2", "", "", ["f()"]),
    ]
    with pytest.raises(AssertionError, match="nothing before it defines g"):
        find_needs("", parts)
