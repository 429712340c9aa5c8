#!/usr/bin/env bash
# nbval 0.11.0: a cell that is stored without an execution count and without outputs is run, but never compared, so that
# notebooks can be tested that were not run. One would think that it fails if it prints; it passes whatever it prints.
# nbstripout 0.9.1, which many repositories run before each commit, removes counts and outputs both: from then on nbval
# checks only that no cell raises, and says nothing. After `nbstripout --keep-count` the same notebook fails.
# What to do: test that every code cell has a count, or fail a cell without one, in a hook in conftest.py.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
bin="$folder/venv/bin"
"$bin/python" -m pip install --quiet --disable-pip-version-check nbval==0.11.0 pytest==9.2.0 ipykernel==7.4.0 \
  nbstripout==0.9.1
cd "$folder"
"$bin/python" - <<'PY'
from nbformat import v4, write

stored = [v4.new_output("stream", name="stdout", text="5\n")]
for name in ("stored", "stripped", "counted"):
    cells = [v4.new_code_cell("print(2 + 2)", execution_count=1, outputs=stored)]
    write(v4.new_notebook(cells=cells), f"{name}.ipynb")
PY
"$bin/nbstripout" stripped.ipynb
"$bin/nbstripout" --keep-count counted.ipynb
"$bin/python" -m pip list 2>/dev/null | grep -E '^(nbval|nbstripout|pytest) '
for name in stored stripped counted; do
  status=0
  said=$("$bin/python" -m pytest -q -p no:cacheprovider --nbval --nbval-current-env "$name.ipynb") || status=$?
  echo "$name: status $status, ${said##*$'\n'}"
  if [[ $name = stripped ]]; then [[ $status = 0 && $said == *"1 passed"* ]]; else [[ $status = 1 ]]; fi
done
