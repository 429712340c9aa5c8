"""How often a model that knows classes is wrong."""

from dataclasses import dataclass

import torch

from ..data.dataset import Dataset
from ..models import Game


@dataclass(frozen=True)
class Classification:
    """What `classification` found; shares are 0..1.

    error      the share of examples whose class is not the one guessed
    low, high  its 95 % interval over examples like these (Wilson's); it knows nothing of other labels or other seeds
    n          examples
    """

    error: float
    low: float
    high: float
    n: int


def classification(model: Game, held_out: Dataset, batch_size: int = 500) -> Classification:
    """Asks the model for the class of every held-out example; dropout off, z_hat = mu (paper section 4.4)."""
    guess = torch.cat([model.classify(x.to(model.device)).argmax(1).cpu() for x in held_out.batches(batch_size)])
    wrong = int((guess != held_out.labels).sum())
    return Classification(wrong / len(guess), *interval(wrong, len(guess)), len(guess))


def interval(wrong: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n examples, of which so many are wrong."""
    from scipy.stats import binomtest  # comes with scikit-learn; half a second to import: only where it is used

    low, high = binomtest(wrong, n).proportion_ci(method="wilson")
    return float(low), float(high)
