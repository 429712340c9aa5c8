#!/usr/bin/env bash
# nbval 0.11.0: the file for --nbval-sanitize-with is no configuration file for ConfigParser, as its README says. nbval
# looks for two adjacent lines, "regex: " and "replace: ", each from its first character on. A comment or a blank line
# between them, an indent, a missing blank behind the colon, or an editor that removes blanks at the end of "replace: "
# loses the rule without a word, and the cells that need it fail. And what stands behind a rule on its line belongs to
# it: a comment there becomes part of the pattern, which then never matches.
# What to do: test that get_sanitize_patterns reads as many rules as the file holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nbval==0.11.0
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from nbval.plugin import get_sanitize_patterns

files = {
    "as documented": "[times]\nregex: \\d+ s\nreplace: TIME\n",
    "nothing as replacement": "regex: \\d+ s\nreplace: \n",
    "a comment between": "regex: \\d+ s\n# seconds\nreplace: TIME\n",
    "a blank line between": "regex: \\d+ s\n\nreplace: TIME\n",
    "indented": "[times]\n  regex: \\d+ s\n  replace: TIME\n",
    "no blank behind the colon": "regex:\\d+ s\nreplace:TIME\n",
    "blanks at the end removed": "regex: \\d+ s\nreplace:\n",
    "a comment behind": "regex: \\d+ s  # seconds\nreplace: TIME\n",
}
print("nbval", version("nbval"))
for name, text in files.items():
    found = get_sanitize_patterns(text)
    print(f"{name}: {found}")
    lost = name not in ("as documented", "nothing as replacement", "a comment behind")
    assert (not found) is lost, found
assert get_sanitize_patterns(files["a comment behind"]) == [(r"\d+ s  # seconds", "TIME")]
PY
