#!/usr/bin/env bash
# typer 0.29.2, which no longer stands on click: with standalone_mode=False, the way to call an app from a main() of one's
# own, a KeyboardInterrupt in a command is not raised, and no Abort either, as click does: the call returns 130, and the
# exception is gone with what it says. Other exceptions come through. So `except KeyboardInterrupt` around the app never
# runs, and a main() that ignores what the call returns ends with status 0 after Ctrl-C.
# What to do: look at what the call returns; where the exception matters, catch it in the command itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check typer==0.29.2 click==8.1.8
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import click
import typer

saved = KeyboardInterrupt("saved at step 12")


def outcome(call) -> str:
    try:
        return f"returns {call()!r}"
    except BaseException as error:
        return f"raises {type(error).__name__}({error})"


def interrupted():
    raise saved


def failed():
    raise RuntimeError("no room")


for library in ("typer", "click"):
    for command in (interrupted, failed):
        if library == "typer":
            app = typer.Typer()
            app.command()(command)
        else:
            app = click.command()(command)
        found = outcome(lambda app=app: app([], standalone_mode=False))
        print(f"{library} {version(library)}, {command.__name__}: {found}")
        expected = {
            ("typer", "interrupted"): "returns 130",
            ("click", "interrupted"): "raises Abort()",
            ("typer", "failed"): "raises RuntimeError(no room)",
            ("click", "failed"): "raises RuntimeError(no room)",
        }
        assert found == expected[library, command.__name__], found
PY
