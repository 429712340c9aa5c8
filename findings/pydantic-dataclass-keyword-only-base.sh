#!/usr/bin/env bash
# pydantic 2.14.4: in a keyword-only pydantic dataclass, a field that is given by Field(...) is positional for a subclass
# that is not keyword-only: it takes the subclass's first positional argument. A field with a plain default does not, and
# in the standard library's dataclasses neither kind does; and inspect.signature of the pydantic class still says that the
# subclass's own fields come first. So adding a range to a base's field breaks every positional call of a subclass.
# What to do: make the subclass keyword-only as well, or name every argument.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydantic==2.14.4
"$folder/venv/bin/python" - <<'PY'
import dataclasses
import inspect

import pydantic
from pydantic import dataclasses as validated


def calls(library, default) -> tuple[list[str], str]:
    """What the signature of a subclass says, and what a positional call of it gives."""

    @library.dataclass(kw_only=True)
    class Base:
        rate: float = default

    @library.dataclass
    class Derived(Base):
        name: str
        size: int = 1

    signature = [*inspect.signature(Derived).parameters]
    try:
        made = Derived("picture", 3)
        return signature, f"rate={made.rate} name={made.name} size={made.size}"
    except pydantic.ValidationError as error:
        return signature, str([(e["loc"], e["type"]) for e in error.errors()])


found = {
    "dataclasses, field()": calls(dataclasses, dataclasses.field(default=0.5)),
    "pydantic, plain default": calls(validated, 0.5),
    "pydantic, Field()": calls(validated, pydantic.Field(0.5, ge=0)),
}
print("pydantic", pydantic.VERSION)
for kind, (signature, result) in found.items():
    print(f"{kind}: {signature} {result}")
    assert signature == ["name", "size", "rate"]
assert [result.startswith("rate=0.5 name=picture size=3") for _, result in found.values()] == [True, True, False]
assert "((0,), 'float_parsing')" in result, "the rate takes the name"
PY
