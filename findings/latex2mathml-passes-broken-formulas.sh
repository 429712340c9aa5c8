#!/usr/bin/env bash
# latex2mathml 3.81.1: LaTeX that MathJax and KaTeX refuse is converted without an error: braces that do not match,
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
for formula in [*braces, *arguments, r"\begin{nosuch} a \end{nosuch}", r"\alpah"]:
    element = convert(formula)
    ElementTree.fromstring(element)
    try:
        raise SystemExit(other.convert_with_local_state(formula, displaystyle=True))
    except LatexError as error:
        print(f"{formula:32} {len(element)} characters of MathML; math-core: {error}")
formula = r"\begin{aligned} a &= b \\ c &= d \end{aligned}"
try:
    raise SystemExit(ElementTree.fromstring(convert(formula)))
except ElementTree.ParseError as error:
    print(f"{formula}: {error}")
ElementTree.fromstring(other.convert_with_local_state(formula, displaystyle=True))
PY
