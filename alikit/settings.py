"""What the settings of a run folder may hold: each of them is checked before anything rests on it, for they may be a
stranger's."""

import math
from collections.abc import Callable
from pathlib import Path

from . import formats
from .errors import AlikitError
from .recipes import RECIPES

Check = tuple[str, Callable[[object], bool]]  # what a value must be, in words, and whether one is

FORMAT = 1
NEEDED = {
    "recipe",
    "data",
    "size",
    "skip_corrupt",
    "seed",
    "batch_size",
    "lr",
    "betas",
    "steps",
    "decoder",
    "x_shape",
}
MOST_NUMBERS = 2**14  # of an example: a picture of 64x64 has 12,288
MOST_NAMES = 2**15  # of classes or attributes: ImageNet has 1,000
MOST_STEPS = 10**12
MOST_TEXT = 10_000  # letters


def checked(file: Path, found: object) -> dict:
    """What was read from the file, if it is the settings of a run: AlikitError where it is of another format, lacks
    what all of this format have, or holds something that is not of the type and in the range that it must have."""
    known = found if isinstance(found, dict) else {}
    whole = known.keys() >= NEEDED and isinstance(known["recipe"], str)
    number = known.get("format")
    if whole and number == FORMAT and known["recipe"] not in RECIPES:
        raise AlikitError(
            f"{file} is of recipe {known['recipe'][:40]!r}, which this alikit does not have: use the version that "
            f"has it, or train again with one of alikit recipes"
        )
    number = None if number == FORMAT and not whole else number
    formats.check(file, number, FORMAT, wrote(known), formats.again(known))
    if found := wrong(known):
        raise AlikitError(f"{file} is damaged, for its {found}: put that right, or train again")
    return known


def wrong(settings: dict) -> str | None:
    """What is wrong in settings, as "lr is not a number from 0 to 1"; None where nothing is."""
    for name, (what, is_one) in SETTINGS.items():
        if name in settings and not is_one(settings[name]):
            return f"{name} is not {what}"
    return None


def wrote(settings: dict) -> object:
    """The version of alikit that wrote the settings, if they say."""
    versions = settings.get("versions")
    return versions.get("alikit") if isinstance(versions, dict) else None


def _whole(low: int, high: int) -> Check:
    return f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high


def _number(low: float, high: float) -> Check:
    return f"a number from {low} to {high}", lambda value: type(value) in (int, float) and low <= value <= high


def _list(length: range, of: Check) -> Check:
    """A list of so many."""
    what, is_one = of
    return (
        f"a list of {length[0]} to {length[-1]}, each {what}",
        lambda value: isinstance(value, list) and len(value) in length and all(map(is_one, value)),
    )


def _or_none(check: Check) -> Check:
    what, is_one = check
    return f"{what}, or null", lambda value: value is None or is_one(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT and "\0" not in value  # which no file's name can hold


def is_shape(value: object) -> bool:
    sides = isinstance(value, list) and len(value) in (1, 3) and all(type(side) is int and side > 0 for side in value)
    return sides and math.prod(value) <= MOST_NUMBERS


_yes_or_no: Check = "true or false", lambda value: isinstance(value, bool)
_text: Check = f"text of at most {MOST_TEXT:,} letters", _is_text
_names = _or_none(_list(range(MOST_NAMES + 1), _text))
_count = _or_none(_whole(1, MOST_NAMES))

# What each of the settings must be: a wrong one would fail somewhere, or build networks that fill the memory.
SETTINGS: dict[str, Check] = {
    **dict.fromkeys(("data", "data_from_run", "command", "data_name", "hardware", "precision"), _text),
    **dict.fromkeys(("decoder", "decoder_from_run"), _or_none(_text)),
    **dict.fromkeys(("skip_corrupt", "decay", "ramp", "precise_bn", "flips", "shifts", "bf16", "plain"), _yes_or_no),
    **dict.fromkeys(("labels", "labelled_batch"), _whole(0, 10**9)),
    **dict.fromkeys(("r1", "consistency"), _number(0, 10**6)),
    **dict.fromkeys(("number_of_classes", "number_of_attributes"), _count),
    **dict.fromkeys(("attributes", "classes"), _names),
    "size": _or_none(_whole(1, 2**16)),
    "seed": _whole(0, 2**32 - 1),
    "batch_size": _whole(2, 10**9),
    "lr": _number(0, 10**6),
    "betas": _list(range(2, 3), _number(0, 0.9999999)),
    "weight_std": _or_none(_number(0, 10**6)),
    "averaging": _number(0, 0.9999999),
    "steps": _whole(1, MOST_STEPS),
    "x_shape": (f"a list of 1 or 3 whole numbers, of at most {MOST_NUMBERS} numbers in all", is_shape),
    "digest": _or_none(_list(range(3, 4), _whole(0, 2**63))),
    "versions": (
        "names with their versions",
        lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    ),
    "processes": _whole(1, 10**6),
    "hours": _number(0, 10**9),
    "images_seen": _whole(0, 10**18),
}
