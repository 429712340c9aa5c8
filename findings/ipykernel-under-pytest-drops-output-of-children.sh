#!/usr/bin/env bash
# ipykernel 7.4.0: what a child process or C code writes to standard output is part of a cell's output, in JupyterLab
# and nbconvert. Not if the kernel was started in a pytest test: it then finds PYTEST_CURRENT_TEST in its environment and
# leaves file descriptors alone. So under nbval 0.11.0, a pytest plugin, a cell that calls subprocess.run fails right
# after nbconvert stored its output ("Missing output fields"), and passes, whatever is written, if none is stored.
# What to do: print(subprocess.run(..., capture_output=True, text=True).stdout), which is the same everywhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check ipykernel==7.4.0 nbconvert==7.17.2 nbval==0.11.0 \
  pytest==9.2.0
cd "$folder"
"$python" - <<'PY'
from nbformat import v4, write

child = "subprocess.run(['echo', 'four'], check=True{})"
sources = {
    "child": f"import subprocess\nanswer = {child.format('')}",
    "printed": f"import subprocess\nprint({child.format(', capture_output=True, text=True')}.stdout)",
}
for name, source in sources.items():
    write(v4.new_notebook(cells=[v4.new_code_cell(source)]), f"{name}.ipynb")
PY
"$python" -m pip list 2>/dev/null | grep -E '^(ipykernel|nbconvert|nbval|pytest) '
for name in child printed; do
  "$python" -m nbconvert --to notebook --execute --inplace --log-level=ERROR "$name.ipynb" 2>/dev/null >/dev/null
  echo "$name: nbconvert stores $(grep -o '"four.*"' "$name.ipynb")"
  status=0
  said=$("$python" -m pytest -q --color=no -p no:cacheprovider --nbval --nbval-current-env "$name.ipynb") || status=$?
  echo "$name: nbval right after it: status $status, $(grep -o 'Missing output.*' <<<"$said" || echo "${said##*$'\n'}")"
  if [[ $name = child ]]; then [[ $status = 1 && $said == *"Missing output fields"* ]]; else [[ $status = 0 ]]; fi
done
