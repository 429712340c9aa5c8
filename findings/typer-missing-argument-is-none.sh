#!/usr/bin/env bash
# typer 0.16.0 to 0.17.4, with click 8.3 or newer, which they allow and pip therefore installs: a required argument or
# option that is missing is no error. The command runs with None for a parameter that it declares as str. With click 8.2
# the same command ends with "Missing argument" and status 2, as typer documents. typer 0.17.5 refuses click 8.3, and
# typer 0.18.0 is right with both.
# What to do: typer>=0.18, or pin click<8.3 beside an older typer; a pinned typer alone pins nothing here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/app.py" <<'PY'
from typing import Annotated

import typer


def train(recipe: str, rate: Annotated[float, typer.Option()]):
    print(f"trains {recipe!r} at {rate!r}", end="")


typer.run(train)
PY
while read -r typer click expected_status expected; do
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "typer==$typer" "click==$click"
  status=0
  said=$("$folder/venv/bin/python" -W ignore "$folder/app.py" 2>&1) || status=$?
  said=$(grep -oE "trains .*|Missing argument 'RECIPE'" <<<"$said")
  echo "typer $typer, click $click, called without arguments: status $status, $said"
  [ "$status $said" = "$expected_status $expected" ]
done <<'TABLE'
0.17.4 8.2.1 2 Missing argument 'RECIPE'
0.17.4 8.3.0 0 trains None at None
0.17.4 8.5.1 0 trains None at None
0.18.0 8.5.1 2 Missing argument 'RECIPE'
TABLE
