"""A training part and a held-out part, of what is in memory or still on the disk. They share one list of classes."""

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import AlikitError
from . import arrays
from .dataset import Dataset
from .images import Listed, log, read_pictures

Parts = tuple[Dataset, Dataset]
Scale = tuple[float, float]  # black and white
X, Y = {"x", "images", "image", "imgs", "img", "data", "pictures"}, {"y", "labels", "label", "targets", "target"}
Examples = Sequence[tuple[Sequence, object]]  # for each part its examples, and their labels or None


def in_memory(
    name: str, parts: Examples, classes: Iterable[str] = (), scale: Scale | None = None, channels: str | None = None
) -> Parts:
    """The parts of arrays: (x, labels) of the examples to train on, and of those held out where they are known.

    x, labels, scale and channels as `Dataset` takes them. Of a single part a tenth is held out at random, always the
    same one.
    """
    parts, labels, classes = _labelled(name, parts, classes)
    try:
        scale = scale or _common_scale([x for x, _ in parts])
        sets = [Dataset(name, x, channels=channels, scale=scale) for x, _ in parts]
    except AlikitError as error:
        said = str(error)
        if name.startswith("file:"):  # which a command may name too
            said = re.sub(r"scale=.0, (.*)[)]", r"--white \1 (white=\1)", said)
            said = re.sub(r"as (scale=.-.*)", r"in Python as \1, or save them as 0 to 1", said)
        raise AlikitError(f"{name}: {said}") from None
    sets = [part.but(labels=y, classes=classes) for part, y in zip(sets, labels, strict=True)]
    if len(sets) == 1:
        return sets[0].split(tenth(name, len(sets[0])))
    train, held_out = sets
    if train.shape != held_out.shape:
        ours, theirs = (" x ".join(map(str, part.shape)) for part in sets)
        raise AlikitError(f"{name}: examples to train on are {ours}, held-out ones {theirs}: make all alike")
    return train, held_out


def on_disk(
    title: str,
    root: Path,
    key: str,
    sources: Iterable[str],
    parts: Examples,
    classes: Iterable[str],
    read: Callable,
    skip_corrupt: bool,
) -> Parts:
    """The parts of pictures that are decoded once into the cache `key`; see `images.read_pictures`. The examples are
    names for `read`. Both parts are slices of the cache: a copy might not fit into memory."""
    parts, labels, classes = _labelled(title, parts, classes)
    if len(parts) == 1:
        (names, _), order = parts[0], torch.randperm(len(parts[0][0]), generator=torch.Generator().manual_seed(0))
        held_out = tenth(title, len(names))
        order = [order[held_out:], order[:held_out]]
        parts = [([names[at] for at in part], None) for part in order]
        labels = [None if labels[0] is None else labels[0][part] for part in order]
    names = [name for names, _ in parts for name in names]
    whole = Listed(names, torch.zeros(len(names), dtype=torch.int64), (), read)
    data, unreadable = read_pictures(title, root, key, sources, lambda: whole, skip_corrupt)
    sets, begin = [], 0
    for (names, _), y in zip(parts, labels, strict=True):
        there = torch.tensor([name not in unreadable for name in names], dtype=torch.bool)
        end = begin + int(there.sum())
        # The labels are those of now, not of when the cache was made.
        sets.append(data.select(slice(begin, end)).but(labels=None if y is None else y[there], classes=classes))
        begin = end
    if not all(map(len, sets)):
        raise AlikitError(f"{root} has {len(data)} readable pictures: add some, to train on and to hold out")
    return tuple(sets)


def _labelled(
    name: str, parts: Examples, classes: Iterable[str]
) -> tuple[Examples, list[Tensor | None], tuple[str, ...]]:
    """The parts, their labels, and the classes or attributes. Where only some parts have labels, this is said."""
    for x, y in parts:
        if not len(x):
            raise AlikitError(f"{name} has a part without examples: add some, or leave that part out")
        if y is not None and len(y) != len(x):
            way = "give each one label"
            if np.ndim(x) > 2 and np.shape(x)[-1] == np.size(y):  # as MATLAB has them
                way = f"x is {' x '.join(map(str, np.shape(x)))}, so give np.moveaxis(x, -1, 0), examples first"
            elif np.size(y) == len(x):
                way = "give y.ravel(), as they are one row"
            raise AlikitError(f"{name} has {len(x):,} examples and {len(y):,} labels of them: {way}")
    known = [y is not None for _, y in parts]
    if known == [True, False]:
        log.warning("the held-out part of %s has no labels, so a tenth of the training part is held out instead", name)
        parts, known = parts[:1], [True]
    elif known == [False, True]:
        log.warning("the training part of %s has no labels, so those of the held-out part are left out", name)
    if not all(known):
        return parts, [None] * len(parts), ()
    try:
        values = [np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y) for _, y in parts]
    except ValueError:
        raise AlikitError(f"{name} has labels of several lengths: give each example one, or attributes") from None
    if len({y.shape[1:] for y in values}) > 1:
        raise AlikitError(f"{name} has labels of two shapes: give both parts classes, or the same attributes")
    try:
        labels, classes = arrays.labels(np.concatenate(values), sum(map(len, values)), tuple(classes))
    except AlikitError as error:
        raise AlikitError(f"{name}: {error}") from None
    if not classes:  # named by their numbers, as the held-out part may lack some
        classes = tuple(map(str, range(labels.shape[1] if labels.ndim == 2 else 1 + int(labels.max()))))
    return parts, [*labels.split([*map(len, values)])], classes


def _common_scale(xs: Sequence) -> Scale | None:
    """What is black and white in pictures of several parts, of which a small one may not tell. None leaves it open."""
    has_16_bits = any(str(getattr(x, "dtype", "")).endswith("int16") for x in xs)
    xs = [arrays.numbers(x, "x") for x in xs] if len(xs) > 1 else []
    if not xs or any(x.ndim < 3 or not x.numel() or x.dtype != xs[0].dtype for x in xs):
        return None
    dark, own = arrays.DEPTHS[-1] if has_16_bits else arrays.DARK, set()
    for x in xs if xs[0].is_floating_point() else ():
        with suppress(AlikitError):
            own.add(arrays.range_of(x, None, dark))
    if len(own) > 1:
        some = " and ".join(f"{black:g} to {white:g}" for black, white in sorted(own))
        raise AlikitError(f"the parts have different ranges ({some}): give both the same")
    seen = torch.stack([value for x in xs for value in x.aminmax()])
    if seen.is_floating_point() and not all(map(arrays.is_whole, xs)):
        seen = torch.cat([seen, seen.mean()[None].floor() + 0.5])
    return arrays.range_of(seen, None, dark)


def tenth(name: str, n: int) -> int:
    """How many of n examples are held out."""
    if n < 2:
        raise AlikitError(f"{name} has {n} example: there must be one to train on and one to hold out")
    return max(1, n // 10)


def chosen(where: object, found: Mapping[str, object]) -> list:
    """The training part, and the held-out one if there is any, among parts by `split_of` their names."""
    train = found.get("train", found.get(None))
    if train is None:
        raise AlikitError(f"{where} has only a part called {', '.join(found)}: add one called train")
    held_out = found.get("test", found.get("valid"))
    if left := [split or "by no name" for split, part in found.items() if part is not train and part is not held_out]:
        log.warning("%s: the part called %s is left out", where, ", ".join(left))
    return [train] if held_out is None else [train, held_out]


def extra(module: str, name: str):
    """The module, which the extra `name` of alikit installs."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise AlikitError(f"to read {name} takes {module.partition('.')[0]}: pip install alikit[{name}]") from None
