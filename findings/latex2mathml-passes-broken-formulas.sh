#!/usr/bin/env bash
# latex2mathml 3.81.1: broken LaTeX is converted without an error, where math-core refuses it: braces that do not match,
# arguments that are missing, a delimiter that is none, environments and commands that do not exist. As other mistakes
# do raise (\left without \right, a double subscript), one would think that a call that returns has understood the
# formula. On the other hand \begin{aligned} becomes text with a bare "&", which no XML parser reads.
# What to do: check formulas with another parser, or convert with one that raises, such as math-core.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check latex2mathml==3.81.1 math-core==0.9.0
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version
from xml.etree import ElementTree

from latex2mathml.converter import convert
from math_core import LatexError, LatexToMathML

print("latex2mathml", version("latex2mathml"), "and math-core", version("math-core"))
other = LatexToMathML(fancy_error=False)
braces, arguments = [r"a}", r"b_{c"], [r"\frac{a}", r"\binom{n}", r"\left a \right)", r"\sum_^n"]


def refused(read, formula: str) -> str:
    """What is wrong with a formula, by one that reads it; empty where it says nothing."""
    try:
        read(formula)
    except (LatexError, ElementTree.ParseError) as error:
        return str(error)
    return ""


def well_formed(formula: str) -> None:
    ElementTree.fromstring(convert(formula))


def converted(formula: str) -> None:
    other.convert_with_local_state(formula, displaystyle=True)


for formula in [*braces, *arguments, r"\begin{nosuch} a \end{nosuch}", r"\alpah"]:
    said = refused(converted, formula)
    print(f"{formula:32} converts; math-core: {said}")
    assert said and not refused(well_formed, formula)
formula = r"\begin{aligned} a &= b \\ c &= d \end{aligned}"
print(f"{formula}: {refused(well_formed, formula)}")
assert refused(well_formed, formula) and not refused(converted, formula)
PY
