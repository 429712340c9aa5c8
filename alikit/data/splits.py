"""Names of splits, as people write them: train2017, Testing, seg_train, "Validation Data"."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from ..errors import AlikitError

KINDS = {
    **dict.fromkeys(("train", "training", "trains", "trn", "trainval"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validate", "vali", "dev", "devel", "development"), "valid"),
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), "valid"),
    **dict.fromkeys(("test", "testing", "tests", "tst"), "test"),
}
# What stands beside those words and says nothing more.
FILLERS = {
    *("all", "data", "dataset", "datasets", "dir", "folder", "folders", "full", "image", "images", "img", "imgs"),
    *("jpeg", "jpegs", "jpg", "jpgs", "my", "photo", "photos", "pic", "pics", "picture", "pictures", "png", "pngs"),
    *("raw", "resized", "cropped", "sample", "samples", "set", "sets", "split", "the"),
}


def nfc(text: str) -> str:
    """An accented letter as one character, however it was written."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _words(name: str) -> list[str]:
    """Split at what is no letter, before capitals, and before a filler: `trainset` is train, set."""
    found = []
    for run in re.findall(r"[^\W\d_]+", nfc(name)):
        whole = run.lower()
        ends = [filler for filler in FILLERS if whole.endswith(filler) and whole[: -len(filler)] in KINDS]
        if whole in KINDS or ends:
            found.append(whole.removesuffix(max(ends, key=len, default="")))
        else:
            found += [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+", run)]
    return [word for word in found if word not in FILLERS]


@lru_cache(4096)  # a table may name its splits a million times
def _read(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The kind of split that a name means, and the words beside that."""
    words = _words(name)
    kinds = {KINDS[word] for word in words if word in KINDS}
    return kinds.pop() if len(kinds) == 1 else None, tuple(word for word in words if word not in KINDS)


def split_of(name: str) -> str | None:
    """train, valid or test, where one of these is among the words of the name; else None."""
    return _read(name)[0]


def says_nothing(name: str) -> bool:
    """Whether a name is of fillers alone, as images or JPEGImages."""
    return _read(name) == (None, ()) and any(map(str.isalpha, name))


def splits_among(names: Iterable[str]) -> dict[str, str]:
    """Those of the names that mean splits, each with its kind: such as say nothing else, or have a counterpart that
    says the same (seg_train and seg_test). `bullet train` among other vehicles does not."""
    found = {name: (kind, rest) for name in names for kind, rest in [_read(name)] if kind}
    told = {(kind == "train", rest) for kind, rest in found.values()}
    return {name: kind for name, (kind, rest) in found.items() if not rest or (kind != "train", rest) in told}


def both(splits: str) -> list[str]:
    """The two names in "TRAIN,HELD_OUT"."""
    names = [nfc(name.strip().strip("/")) for name in splits.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise AlikitError(f"splits are {splits!r}: name two, as --splits TRAIN,HELD_OUT, or none (splits=...)")
    return names
