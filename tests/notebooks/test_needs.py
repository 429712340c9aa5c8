"""What a section says it needs is what its code needs: no section less, and none more."""

import nbformat
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


def test_needs_by_hand():
    """Names through calls, classes, comprehensions and lambdas; names defined again; an exercise defines nothing."""
    sections = [
        "x = [i for i in range(3)]\ndef f(a): return [a + x for _ in a]",
        "class C(B):\n    def m(self): return f(self)\nz = lambda a: a + w",
        "y = x\nx = 2",
        "C().m()",
    ]
    parts = [Part(str(number), "", "", [code]) for number, code in enumerate(sections, 1)]
    parts.insert(1, Part("exercise 1", "", "", ["x += 1; y = x"]))
    find_needs("B = 1; w = 2", parts)
    needs = (
        "no other section",
        "section 1, run again if section 3 ran since",
        None,
        "section 1",
        "sections 1, 2 and 3",
    )
    for part, line in zip(parts, needs, strict=True):
        assert line is None or part.line == f"*Needs {line}.*"
