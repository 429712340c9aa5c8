"""What a section says it needs is what its code needs: no section less, and none more."""

import nbformat
from needs import parts_of
from test_notebooks import NOTEBOOKS, every_notebook


@every_notebook
def test_each_section_and_exercise_says_what_it_needs_and_leaves_the_imports_alone(path):
    _, parts = parts_of(path)
    assert {part.heading: part.stated for part in parts} == {part.heading: part.line for part in parts}


def test_all_say_the_same_of_a_restart():
    notes = {nbformat.read(path, as_version=4).cells[0].source.rpartition("\n\n**")[2] for path in NOTEBOOKS}
    assert len(notes) == 1 and notes.pop().startswith("After a restart**, or to come back to a section")
