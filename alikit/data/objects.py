"""What people have in Python: arrays, and data sets whose examples are read one by one."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset

from ..errors import AlikitError
from . import arrays
from .dataset import Dataset
from .decoding import square
from .files import arrays_of
from .images import log
from .parts import Parts, Scale, X, Y, chosen, in_memory, tenth
from .splits import split_of

FORMS = "arrays, (x, labels), a data set with a length and examples by number, or a pair of them to train and hold out"


def object_parts(
    given: Any,
    size: int | None = None,
    skip_corrupt: bool = False,
    scale: Scale | None = None,
    channels: str | None = None,
) -> Parts:
    """The training part and the held-out part of a Python object. Of a single part a tenth is held out.

    given  a `Dataset`; an array x as `Dataset` takes it; (x, labels); a data set of torch, torchvision or the like,
           each example a picture or (picture, label), where a picture is one of PIL, an array or a tensor; a pair of
           any of these, the second held out; or a mapping of arrays called x_train, y_train and so on, see
           `files.arrays_of`
    size   pixels a side, for PIL pictures: resized on the shorter side and centre-cropped
    scale, channels  as `Dataset` takes them, where the data does not tell

    Raises AlikitError for anything else, and for an example that cannot be read, unless it is left out by
    `skip_corrupt`.
    """
    how = {"scale": scale, "channels": channels}
    if isinstance(given, Mapping) and given and all(_is_part(part) for part in given.values()):
        kinds = {split_of(str(key)): part for key, part in given.items()}
        if len(kinds) < len(given):
            raise AlikitError(f"the mapping has {', '.join(map(str, given))}: keep one to train and one to test on")
        train, *held_out = chosen("the mapping", kinds)
        given = (train, *held_out) if held_out else train
    if isinstance(given, Mapping):
        examples, classes = arrays_of(
            "the mapping", {str(key): lambda value=value: value for key, value in given.items()}
        )
        return in_memory("arrays", examples, classes, **how)
    parts = given if _is_pair(given) else (given,)
    if all(isinstance(part, Dataset) for part in parts):
        if (size, scale, channels) != (None, None, None):
            raise AlikitError("a Dataset has the size and the values it has: leave size, white, scale, channels out")
        if len(parts) == 1:
            return parts[0].split(tenth(parts[0].name, len(parts[0])))
        if (parts[0].shape, parts[0].classes) != (parts[1].shape, parts[1].classes):
            raise AlikitError("the two parts differ in shape or classes: give both the same")
        return tuple(parts)
    read = [_examples(part, size, skip_corrupt) for part in parts]
    labels, named = [y for _, y, _, _ in read], [names for _, _, names, _ in read if names]
    # Each part numbers the classes that it has.
    if len(named) == len(labels) and (named[0] != named[-1] or all(name.isdecimal() for name in named[0])):
        labels = [None if y is None else _by_name(y, names) for y, names in zip(labels, named, strict=True)]
    if all(known for *_, known in read):
        how = read[0][3] | {name: value for name, value in how.items() if value is not None}
    examples = [(x, y) for (x, *_), y in zip(read, labels, strict=True)]
    return in_memory(_title(parts[0]), examples, named[0] if named else (), **how)


def _by_name(labels: object, names: list[str]) -> np.ndarray:
    """The names of the classes that are numbers in `names`."""
    values = np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu" or not 0 <= values.min() <= values.max() < len(names):
        raise AlikitError("the two parts have other classes, and labels that are not their numbers: give both the same")
    return np.array(names)[values]


def _is_array(given: object) -> bool:
    """One with at least one side: NumPy's, a tensor, or one of another library that NumPy can read."""
    return len(getattr(given, "shape", ())) > 0 and (isinstance(given, Tensor) or hasattr(given, "__array__"))


def _is_read_singly(given: object) -> bool:
    there = (hasattr(given, "__len__") and hasattr(given, "__getitem__")) or isinstance(given, Dataset)
    known = isinstance(given, str | bytes | Mapping | tuple | list | Image.Image) or hasattr(given, "__array__")
    return there and not known


def _is_part(given: object) -> bool:
    """Whether this is examples with their labels, rather than one array."""
    return _is_read_singly(given) or isinstance(given, tuple)


def _is_pair(given: object) -> bool:
    """Whether these are a part to train on and one held out, rather than one part."""
    if not isinstance(given, tuple | list) or len(given) != 2:
        return False
    first, second = given
    if isinstance(given, list):
        arrays_of_parts = [isinstance(part, tuple) and len(part) == 2 and all(map(_is_array, part)) for part in given]
        return all(arrays_of_parts) or (_is_read_singly(first) and _is_read_singly(second))
    if _is_array(first) and _is_array(second):  # x and labels, or x and x
        return second.ndim > 2 or (second.ndim == first.ndim and len(first) != len(second))
    return all(map(_is_part, given))


def _examples(part: object, size: int | None, skip_corrupt: bool) -> tuple[object, object, list[str], dict]:
    """x, labels or None, the names of classes if they are known, and what `Dataset` need not find out about x."""
    if isinstance(part, DataLoader):
        raise AlikitError("a DataLoader gives batches, in another order each time: load its .dataset")
    if isinstance(part, Dataset):
        return part.x, part.labels, [*part.classes], {}
    if isinstance(part, tuple) and [*map(type, part)] == [list, list] and len(part[0]) == len(part[1]):
        part = [*zip(*part, strict=True)]  # pictures and labels
    if isinstance(part, list) and part and _is_read_singly(part[0]):
        raise AlikitError(f"this is a list of {len(part)} data sets: give one, or a pair to train on and to hold out")
    if isinstance(part, list) and part and isinstance(part[0], tuple | Image.Image | np.ndarray | Tensor | Mapping):
        x, y, known = _read(part, size, skip_corrupt)
        return x, y, [], known
    if _is_read_singly(part):
        if type(_inner(part)).__name__ == "EMNIST":
            log.warning("EMNIST's pictures lie on their side, as stored: load('torchvision:EMNIST') has them upright")
        x, y, known = _read(part, size, skip_corrupt)
        return x, y, _classes(part), known
    if size is not None:
        raise AlikitError("a size is for PIL pictures; arrays have the size they have")
    if _is_array(part) or isinstance(part, list):
        return part, None, [], {}
    if isinstance(part, tuple) and len(part) == 2 and (_is_array(part[0]) or isinstance(part[0], list)):
        return part[0], part[1], [], {}
    raise AlikitError(f"cannot load a {type(part).__name__}: give a name, a path, {FORMS}")


def _read(data: Any, size: int | None, skip_corrupt: bool) -> tuple[np.ndarray, list | None, dict]:
    """All pictures of a data set in one array, their labels, and what `Dataset` need not find out about them."""
    x, labels, title = None, [], _title(data)
    for at, picture, label in _singly(data, title, skip_corrupt):
        is_pil = isinstance(picture, Image.Image)
        pixels = _pixels(picture, size) if is_pil else arrays.numbers(picture, "x").cpu().numpy()
        if size is not None and not is_pil:
            raise AlikitError(f"a size is for PIL pictures; those of {title} have the size they have")
        if x is None:
            x = np.empty((len(data), *pixels.shape), pixels.dtype)
        if is_pil and pixels.ndim == 3 and len(pixels) != x.shape[1]:  # a grey one among others in colour
            x, pixels = (np.repeat(a, 3, len(a.shape) - 3) if a.shape[-3] == 1 else a for a in (x, pixels))
        if (pixels.shape, pixels.dtype) != (x.shape[1:], x.dtype):
            one, other = (f"{a.dtype} {' x '.join(map(str, a.shape))}" for a in (x[0], pixels))
            raise AlikitError(f"example {at} of {title} is {other}, earlier ones are {one}: choose one size (size=N)")
        x[len(labels)] = pixels
        labels.append(label)
    if x is None:
        raise AlikitError(f"{title} has no examples: add some")
    if 0 < (lacking := sum(label is None for label in labels)) < len(labels):
        raise AlikitError(f"{lacking} of {len(labels)} examples of {title} have no label: give all one, or none")
    known = {"scale": (0, 255), "channels": "first"} if is_pil and x.ndim == 4 else {}
    return x[: len(labels)], None if lacking else labels, known


def _singly(data: Any, title: str, skip_corrupt: bool) -> Iterator[tuple[int, object, object]]:
    """The number, picture and label of each example."""
    lost = []
    for at in range(len(data)):
        try:
            example = data[at]
        except Exception as error:  # of a person's own code, or of a damaged file
            if not skip_corrupt:
                why = f"{type(error).__name__}: {error}"
                way = "mend it, or use skip_corrupt=True"
                raise AlikitError(f"example {at} of {title} cannot be read ({why}): {way}") from None
            lost.append(at)
            continue
        if isinstance(example, Mapping):  # of Hugging Face's `datasets`
            several = [key for key in example if {*key.lower().split("_")} & Y]
            if at == 0 and len(several) > 1:
                log.warning("%s has several labels (%s): %s is taken", title, ", ".join(several), _key(example, Y))
            elif at == 0 and not several and len(example) > 1:
                others = ", ".join(key for key in example if key != _key(example, X))
                log.warning("%s has no labels: of %s rename the one that you mean to label", title, others)
            example = [example.get(_key(example, words)) for words in (X, Y)]
        picture, label = example if isinstance(example, tuple | list) and len(example) == 2 else (example, None)
        if isinstance(picture, tuple) and len(picture) == 1:  # of a TensorDataset of one tensor
            (picture,) = picture
        if not isinstance(picture, Image.Image) and not _is_array(picture):
            some = f"{len(example)} values" if isinstance(example, tuple | list) else f"a {type(picture).__name__}"
            raise AlikitError(f"example {at} of {title} is {some}: make each a picture, or a picture and its label")
        yield at, picture, label.tolist() if hasattr(label, "tolist") else label
    if lost:
        log.warning("left out %d of %d examples of %s that cannot be read: %s", len(lost), len(data), title, lost[:3])


def _pixels(picture: Image.Image, size: int | None) -> np.ndarray:
    """(C, H, W) uint8; or (H, W) as they are, of pictures of more than 8 bits."""
    fit, picture = square(size), ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":
        pixels = np.asarray(fit(Image.fromarray(np.asarray(picture, np.float32))) if fit else picture)
        return pixels.round().clip(0).astype(np.uint16) if picture.mode.startswith("I;16") else pixels
    (picture,) = arrays.alike([picture])
    return np.atleast_3d(np.asarray(fit(picture) if fit else picture)).transpose(2, 0, 1)


def _inner(data: Any) -> Any:
    """The data set in a Subset or a ConcatDataset. What another wrapper makes of labels is unknown."""
    while isinstance(data, Subset | ConcatDataset):
        data = data.dataset if isinstance(data, Subset) else data.datasets[0]
    return data


def _classes(data: Any) -> list[str]:
    """The names of classes that the data set knows, unless its labels are changed on the way."""
    if isinstance(data, Subset):
        return _classes(data.dataset)
    if isinstance(data, ConcatDataset):
        several = {tuple(_classes(part)) for part in data.datasets}
        if len(several) > 1:
            raise AlikitError("the parts of a ConcatDataset number other classes: give all of them the same ones")
        return [*several.pop()]
    if getattr(data, "target_transform", None):
        return []
    features = getattr(data, "features", {})
    label = features.get(_key(features, Y)) if isinstance(features, Mapping) else None
    of_data = [getattr(data, key) for key in ("classes", "categories", "attr_names") if hasattr(data, key)]
    names = getattr(label, "names", None) or next(iter(of_data), None)
    numbers = names if isinstance(names, Mapping) else getattr(data, "class_to_idx", None)
    if isinstance(numbers, Mapping) and sorted(numbers.values(), key=str) == sorted(range(len(numbers)), key=str):
        names = sorted(numbers, key=numbers.get)
    names = names if isinstance(names, tuple | list) else []
    names = [name[0] if isinstance(name, tuple | list) else str(name) for name in names]
    # ImageNet has two cranes; CelebA's last name is empty.
    return [f"{name} ({at})" if names.count(name) > 1 else name for at, name in enumerate(names) if name]


def _key(example: Mapping, words: set[str]) -> str | None:
    """The key of pictures or labels, as label, or else the first like fine_label."""
    known = [key for key in example if key.lower() in words]
    return next(iter([*known, *(key for key in example if {*key.lower().split("_")} & words)]), None)


def _title(data: object) -> str:
    data = _inner(data)
    if isinstance(data, Dataset):
        return data.name
    return "arrays" if _is_array(data) or isinstance(data, tuple | list) else type(data).__name__
