"""What every data source returns: one tensor of examples, with their labels and known factors if there are any."""

import copy
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import AlikitError
from . import arrays


@dataclass(frozen=True)
class Dataset:
    """All examples of one data set, ready to be indexed in whole batches.

    Arrays and tensors of any usual form are taken, see `arrays.examples` and `arrays.labels`, which say what `channels`
    and `scale` answer; anything else is an AlikitError. What is kept:

    name     what it is called in settings and logs
    x        pictures: (N, C, H, W) uint8 in 0..255; points: (N, D) float32
    labels   (N,) int64 class of each example; or (N, A) uint8, for each of A attributes 1 where the example has it; or
             None
    classes  the name of each class in label order, or of each attribute in column order
    factors  further known facts of each example, each a tensor with N rows

    Pictures from a disk stay in their cache, which is mapped. A slice of them is no copy, any other index is one.
    """

    name: str
    x: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    factors: dict[str, Tensor] = field(default_factory=dict)
    channels: InitVar[str | None] = None
    scale: InitVar[tuple[float, float] | None] = None

    def __post_init__(self, channels: str | None, scale: tuple[float, float] | None) -> None:
        x = arrays.examples(self.x, channels, scale)
        labels, classes = arrays.labels(self.labels, len(x), self.classes)
        factors = {name: torch.as_tensor(values) for name, values in self.factors.items()}
        for name, values in factors.items():
            if values.ndim == 0 or len(values) != len(x):
                raise AlikitError(f"factor {name} is not of {len(x)} examples: give each of them its own")
        vars(self).update(x=x, labels=labels, classes=classes, factors=factors)

    def but(self, **fields: object) -> "Dataset":
        """The same data set with other `fields`, which are not checked."""
        other = copy.copy(self)
        vars(other).update(fields)
        return other

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) for pictures, (D,) for points."""
        return tuple(self.x.shape[1:])

    def floats(self, index: Tensor | slice = slice(None)) -> Tensor:
        """The indexed examples as a network takes them: pictures in [0, 1], points as they are; float32."""
        x = self.x[index]
        return x.float() / 255 if x.dtype == torch.uint8 else x

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """All examples in order as `floats`, `batch_size` at a time; the last batch may be smaller."""
        return (self.floats(slice(begin, begin + batch_size)) for begin in range(0, len(self), batch_size))

    def mean(self) -> Tensor:
        """The mean example, `shape` float32, on the scale of `floats`."""
        return (sum(batch.double().sum(0) for batch in self.batches(1000)) / len(self)).float()

    def conditions(self, index: Tensor | slice = slice(None)) -> Tensor:
        """y of the indexed examples for a conditional model: (N, A) uint8, 0 or 1 for each attribute; or (N, K), 1 for
        the example's class. AlikitError without labels."""
        if self.labels is None:
            raise AlikitError(f"{self.name} has neither attributes nor classes: name data with labels")
        labels = self.labels[index]
        if labels.ndim == 2:
            return labels
        return F.one_hot(labels, len(self.classes) or 1 + int(self.labels.max())).to(torch.uint8)

    def select(self, index: Tensor | slice) -> "Dataset":
        """The indexed examples with their labels and factors, as a data set of their own."""
        labels = None if self.labels is None else self.labels[index]
        factors = {name: values[index] for name, values in self.factors.items()}
        return self.but(x=self.x[index], labels=labels, factors=factors)

    def some(self, n: int) -> "Dataset":
        """n random examples, always the same ones, or all in their order where there are no more. (The first n of a
        folder may all be of one class.)"""
        return self if n >= len(self) else self.select(_shuffled(len(self), 0)[:n])

    def split(self, held_out: int, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """A training part and `held_out` examples drawn at random from `seed`, without overlap."""
        n = len(self)
        if not 0 < held_out < n:
            raise AlikitError(f"cannot hold out {held_out} of {n} examples: choose between 1 and {n - 1}")
        order = _shuffled(n, seed)
        return self.select(order[held_out:]), self.select(order[:held_out])

    def labelled(self, n: int, seed: int = 0) -> "Dataset":
        """n examples drawn at random from `seed`, n / K of each of the K classes. AlikitError with fewer than two
        classes, where K does not divide n, and where a class has too few examples."""
        k = 0 if self.labels is None or self.labels.ndim != 1 else len(self.classes) or 1 + int(self.labels.max())
        if k < 2:
            raise AlikitError(f"{self.name} has no classes to tell apart: name data whose examples have one class each")
        if n < 1 or n % k:
            raise AlikitError(f"{n} labels cannot be shared out evenly over {k} classes: ask for a multiple of {k}")
        least, label = self.labels.bincount(minlength=k).min(dim=0)
        if n > least * k:
            name = self.classes[label] if self.classes else int(label)
            fewer = f"ask for at most {least * k:,}, or " if least else ""
            has = f"{self.name} has {least} to spare of class {name}"
            raise AlikitError(f"{n:,} labels are wanted; {has}: {fewer}name data with more of it")
        order = _shuffled(len(self), seed)
        return self.select(torch.cat([order[self.labels[order] == label][: n // k] for label in range(k)]))

    def fits(self, device: torch.device | str) -> bool:
        """Whether x fills at most half of the free memory of a GPU; always true of the processor."""
        return torch.device(device).type != "cuda" or self.x.nbytes <= torch.cuda.mem_get_info(device)[0] / 2

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with x on `device`; labels and factors stay where they are."""
        return self.but(x=self.x.to(device))


def _shuffled(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
