"""Examples with what a conditional model is told of them, for measures of any model."""

from collections.abc import Iterator

from torch import Tensor

from ..data.dataset import Dataset
from ..models import Game


def told(model: Game, data: Dataset) -> Tensor | None:
    """y of all examples, (N, A); None for a model that is told nothing."""
    return data.conditions() if model.attributes else None


def examples(model: Game, data: Dataset, batch_size: int = 500) -> Iterator[tuple[Tensor, Tensor | None]]:
    """All examples in order as `Dataset.floats`, on the model's device, each batch with its y or None."""
    y = told(model, data)
    for number, x in enumerate(data.batches(batch_size)):
        here = slice(number * batch_size, (number + 1) * batch_size)
        yield x.to(model.device), y if y is None else y[here].to(model.device)
