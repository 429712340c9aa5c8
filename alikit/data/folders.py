"""Folders of pictures: which of their folders are classes, which are splits, and which only lie around those."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import AlikitError, one_line
from .dataset import Dataset
from .images import Listed, divided, existing, log, read_parts, walk
from .splits import both, nfc, says_nothing, split_of, splits_among
from .tables import find_tables, table_parts

# Files that may say what pictures show; beside class folders a list of their names says nothing new.
TELLING = r"(?i).*(label|attr(?!ibution)|anno|class|meta).*\.(csv|tsv|txt|json|mat)"
TELLING_MORE = r"(?i).*(label|attr(?!ibution)|anno|meta).*\.(csv|tsv|mat)"
ASK = "say which, as --splits TRAIN,HELD_OUT, or --splits none where all are classes (splits=...), or name one folder"


class Part(NamedTuple):
    """The pictures below a folder of the root."""

    below: str  # the name of the folder with a / behind it; the root itself is ""
    names: list[str]  # of the files, in the root

    def inside(self) -> tuple[list[str], dict[str, "Part"]]:
        """The pictures directly in it, and those of each of its folders, by the name of that."""
        loose, groups = [], {}
        for name in self.names:
            folder, slash, _ = name[len(self.below) :].partition("/")
            (groups.setdefault(folder, []) if slash else loose).append(name)
        return loose, {folder: Part(f"{self.below}{folder}/", names) for folder, names in groups.items()}

    def classes(self) -> set[str]:
        return {nfc(folder) for folder in self.inside()[1]}


def image_folder(
    root: str | Path,
    split: str = "train",
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
    splits: str | None = None,
) -> Dataset:
    """A folder of class folders, `root/<class>/<picture>`, or `root/<split>/<class>/<picture>` where root has splits.

    Returns x (N, C, H, W) uint8, C 1 where all pictures are grey and else 3, and labels (N,). Classes are the folder
    names in alphabetical order; there are none if pictures lie directly in the folder. With `size` each picture is
    resized on its shorter side and centre-cropped to size x size when the cache is made; without it all must share one
    size. Unreadable files are named in an error, or left out and counted with `skip_corrupt`. `white` is the brightest
    value of 16- and 32-bit grey pictures; without it the brightest of all must be the end of a usual range.

    `split` is the name of a folder, or train, valid or test for the folder of that kind, however it is spelled. A root
    without splits is all "train". Where names do not tell, `splits` does: "TRAIN,HELD_OUT", the names of two folders,
    or "none".

    Raises AlikitError for a missing or empty folder, an empty class, mixed sizes, and unreadable files.
    """
    root = existing(root)
    names, folders = walk(root)
    if split == "train":
        listed = _listed(root, _parts(root, names, folders, splits)[0], folders)
    else:
        listed = _of_split(root, Part("", names), folders, split)
    how = size, skip_corrupt, white, splits
    return read_parts(f"folder:{root.name}", root, f"folder-{split}".replace("/", "-"), [listed], *how)[0]


def folder_parts(
    root: str | Path,
    size: int | None = None,
    skip_corrupt: bool = False,
    white: float | None = None,
    splits: str | None = None,
) -> list[Dataset]:
    """A folder's training part and held-out part: its own splits where it has them, else a tenth by name. A folder of
    pictures without classes beside a table is read as `table_parts` does."""
    root = existing(root)
    names, folders = walk(root)
    train, held_out = _parts(root, names, folders, splits)
    if tables := find_tables(root):
        if len(train.classes()) < 2:
            log.warning("labels are read from %s in %s", ", ".join(tables), root)
            return table_parts(root, size, skip_corrupt, white, splits)
        log.warning("%s is not read, as %s has class folders: table:%s reads it", tables[0], root / train.below, root)
    listed = _listed(root, train, folders)
    if not tables:
        _say_what_is_not_read(root, listed.classes, folders)
    parts = [listed, _listed(root, held_out, folders, listed.classes)] if held_out else divided(listed, train.below)
    return read_parts(f"folder:{root.name}", root, "folder-parts", parts, size, skip_corrupt, white, splits)


def list_folder(root: Path) -> Listed:
    """The pictures of a folder of class folders, whatever these are called."""
    names, folders = walk(root)
    return _listed(root, Part("", names), folders)


def _listed(root: Path, part: Part, folders: dict[str, list[str]], known: Sequence[str] = ()) -> Listed:
    """The pictures of a part, labelled in the order of the classes `known` from the training part, or of its own."""
    folder = root / part.below
    if not part.names:
        others = [place + name for place, some in folders.items() if place.startswith(part.below) for name in some]
        way = "expected class folders holding files such as .jpg or .png"
        if others:
            way += f", and not {_some(others)}; open other files in Python and give alikit.load((x, y))"
        raise AlikitError(f"no pictures in {folder}: {way}")
    pieces = (name[len(part.below) :].partition("/") for name in part.names)
    class_of = [name if slash else "" for name, slash, _ in pieces]
    if all(_is_thousand(name[len(part.below) :]) for name in part.names):
        log.warning("folders such as %s in %s count pictures, so they are no classes", class_of[0], folder)
        class_of = [""] * len(class_of)
    spelled = {name: nfc(name) for name in {*class_of} - {""}}
    classes = {*spelled.values()}
    if loose := class_of.count(""):
        if classes:
            log.warning("%d pictures in %s lie outside its class folders, so none has a label", loose, folder)
        known = classes = []
    else:
        _check_empty(folder, part.below, {*spelled}, folders)
    if known and (strange := classes - {*known}):
        raise AlikitError(
            f"{folder} has classes that the training part lacks ({', '.join(sorted(strange))}): give both the same"
        )
    deeper = {name[len(part.below) :].rpartition("/")[0] for name in part.names}  # a/abbey, color/apple
    is_deep = len(deeper) > len(classes) and not deeper & {*spelled}
    if classes and not known and (is_deep or any(map(says_nothing, classes))):
        log.warning("%s: its classes are %s; if these are none, name one folder", folder, _some(sorted(classes)))
    order = {name: label for label, name in enumerate(known or sorted(classes))}
    labels = torch.tensor([order.get(spelled.get(name), 0) for name in class_of])
    return Listed(part.names, labels, [*order])


def _is_thousand(name: str) -> bool:
    """As FFHQ has them, from 00000/00000.png to 69000/69999.png."""
    found = re.fullmatch(r"(\d{4,9})/(\d{1,9})\.\w+", name)
    return bool(found) and int(found[2]) // 1000 * 1000 == int(found[1])


def _say_what_is_not_read(root: Path, classes: Sequence[str], folders: dict[str, list[str]]) -> None:
    """Labels may lie in files of other kinds, as CelebA's .txt or the .mat of flowers."""
    places, telling = (folders, TELLING) if len(classes) < 2 else ({"": folders[""]}, TELLING_MORE)
    if found := [place + name for place, others in places.items() for name in others if re.fullmatch(telling, name)]:
        way = "labels come from class folders, or from a table, as table:PATH/NAME.csv"
        log.warning("%s: not read are %s; %s", root, _some(found), way)


def _check_empty(folder: Path, below: str, classes: set[str], folders: dict[str, list[str]]) -> None:
    """A class folder without any file is a mistake; one with files of other kinds, as annotations, is no class."""
    inside = {name.removeprefix(below).partition("/")[0] for name in folders if name.startswith(below)} - classes - {""}
    for name in sorted(inside):
        if not any(others for place, others in folders.items() if place.startswith(f"{below}{name}/")):
            raise AlikitError(f"class {name} in {folder} has no pictures: fill that folder, or remove it")


def _entered(part: Part, kind: str | None = None) -> Part:
    """Inside all folders that only hold one other folder of folders, as archives often do. In a split of a `kind` also
    inside one that is called so; elsewhere not inside one that is called as a split."""
    loose, groups = part.inside()
    if loose or len(groups) != 1:
        return part
    ((name, only),) = groups.items()
    directly, deeper = only.inside()
    if splits_among([name]) if kind is None else split_of(name) == kind:
        return _entered(only, kind) if kind else part
    return _entered(only, kind) if deeper and not directly else part


def _parts(root: Path, names: list[str], folders: dict[str, list[str]], splits: str | None) -> tuple[Part, Part | None]:
    """The training part and the one to hold out; None for the latter where it is to be a tenth of the former."""
    said: list[str] = []
    found = _layout(root, Part("", names), splits, said)
    places = [part.below for part in found if part]
    if not splits and not found[1]:
        _check_inside(root, found[0], folders)
    if any(place.count("/") >= len(places) for place in places):  # deeper than the splits themselves
        said.insert(0, f"the pictures lie in {' and '.join(places)}")
    if said:
        log.warning("%s", one_line(f"{root}: {'; '.join(said)}"))
    return found


def _check_inside(root: Path, part: Part, folders: dict[str, list[str]]) -> None:
    """Where classes are to be, splits inside them are not to be mixed: cat/train/, cat/test/."""
    inside: dict[str, list[str]] = {}
    for place in folders:
        outer, _, rest = place.removeprefix(part.below).partition("/")
        if place.startswith(part.below) and rest.count("/") == 1:
            inside.setdefault(outer, []).append(rest[:-1])
    for outer, places in inside.items():
        kinds = splits_among(places)
        filled = [name for name in kinds if any(file.startswith(f"{part.below}{outer}/{name}/") for file in part.names)]
        if "train" in (found := {kinds[name] for name in filled}) and len(found) > 1:
            there = f"{root / part.below} has splits inside its folders ({outer}: {_some(filled)})"
            raise AlikitError(f"{there}: {ASK}")


def _layout(root: Path, part: Part, splits: str | None, said: list[str]) -> tuple[Part, Part | None]:
    if splits and splits != "none":
        return _named(root, part, splits)
    loose, groups = part.inside()
    kinds = {} if splits == "none" else splits_among(groups)
    if len(groups) == 1 and [*kinds.values()] == ["train"]:
        if loose:
            said.append(f"left out {len(loose)} pictures beside {part.below}{next(iter(kinds))}/")
        return _layout(root, *groups.values(), splits, said)
    if kinds:
        return _paired(root, part, kinds, said)
    inner = _entered(part, splits) if len(groups) == 1 else part
    return (part, None) if inner.below == part.below else _layout(root, inner, splits, said)


def _paired(root: Path, part: Part, kinds: dict[str, str], said: list[str]) -> tuple[Part, Part | None]:
    """The parts where some folders are called as splits are. What they hold decides, else the person."""
    loose, groups = part.inside()
    others = [name for name in groups if name not in kinds]
    there = f"{root / part.below} has {_some([*kinds, *others])}"
    ask = AlikitError(f"{there}, which may be splits or classes: {ASK}")
    trains = [name for name, kind in kinds.items() if kind == "train"]
    if len(trains) != 1 or len(kinds) == 1:
        raise ask
    train = _entered(groups[trains[0]], "train")
    classes = train.classes()
    inner = {name: _entered(groups[name], kind) for name, kind in kinds.items() if kind != "train"}
    if classes:
        fitting = [name for name, held_out in inner.items() if held_out.classes() & classes]
    elif others:
        raise ask
    else:
        fitting = [*inner]
    best = "test" if "test" in (kinds[name] for name in fitting) else "valid"
    held_out = [name for name in fitting if kinds[name] == best]
    if len(held_out) > 1:
        raise ask
    if not held_out and (strange := next((found for found in inner.values() if len(found.classes()) > 1), None)):
        lacks = f"{root / strange.below} has classes that {train.below} lacks ({_some(sorted(strange.classes()))})"
        raise AlikitError(f"{lacks}: give both the same, or {ASK}")
    if not held_out:
        said.append(f"a tenth is held out, as there are no class folders in {_some([*inner])}")
    elif not classes and inner[held_out[0]].classes():
        said.append(f"no picture has a label, as {train.below} has no class folders")
    left_out = others + [name for name in inner if held_out and name not in fitting]
    left_out += [f"{len(loose)} pictures"] * bool(loose)
    if left_out:
        said.append(f"left out {_some(left_out)}")
    return train, inner[held_out[0]] if held_out else None


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names][:6]) + (", ..." if len(names) > 6 else "")


def _named(root: Path, part: Part, splits: str) -> tuple[Part, Part]:
    """The two folders that the person names."""
    found = []
    for path in both(splits):
        inner = part
        for folder in path.split("/"):
            inner = inner and {nfc(name): group for name, group in inner.inside()[1].items()}.get(folder)
        if not inner:
            if (deeper := _entered(part)).below != part.below:
                return _named(root, deeper, splits)
            there = _some(part.inside()[1]) or "none"
            raise AlikitError(f"no folder {path} with pictures in {root / part.below}: its folders are {there}")
        found.append(_entered(inner, split_of(path) or "none"))
    return found[0], found[1]


def _of_split(root: Path, part: Part, folders: dict[str, list[str]], split: str) -> Listed:
    """A split by its own name or its kind, with the labels that the training part gives its classes."""
    _, groups = part.inside()
    kinds = splits_among(groups)
    found = [name for name in groups if nfc(name) == nfc(split)]
    found = found or [name for name in groups if split_of(name) == (split_of(split) or split)]
    if len(found) > 1:
        raise AlikitError(f"{root / part.below} has several splits {split!r} ({_some(found)}): name one of them")
    if not found:
        if not kinds and (inner := _entered(part)).below != part.below:
            return _of_split(root, inner, folders, split)
        raise AlikitError(f"no split {split!r} in {root}: expected a folder {split}/ with class folders inside")
    part, trains = _entered(groups[found[0]], kinds.get(found[0])), [name for name in kinds if kinds[name] == "train"]
    known = sorted(_entered(groups[trains[0]], "train").classes()) if len(trains) == 1 else []
    return _listed(root, part, folders, known if part.classes() <= {*known} else ())
