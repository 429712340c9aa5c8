"""Whether a conditional model's pictures have the attributes of y, or its class, and whether all else stays as it was.

A classifier that has learned from real pictures looks at generated ones. Beside what it finds stands what it finds in
held-out real pictures.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.conditions import NAMED, switched
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from ..views import mirrored, shifted
from .features import feature_network, in_colour, samples_for, unit
from .inference import examples
from .probes import TRAIN_EXAMPLES, regression

STEPS, BATCH, RATE = 3_000, 64, 2e-3
EXAMPLES = 2_000  # at most, in which each attribute is switched
AT_ONCE = 250
MAPS, STRIDES = (3, 32, 64, 96, 128, 128), {32: (1, 2, 2, 2), 64: (2, 2, 2, 2, 1)}  # from S pixels a side to 4


class AttributeClassifier(nn.Module):
    """The attribute classifier: pictures (N, C, S, S) in [0, 1], C 1 or 3, to a logit for each attribute, (N, A).

    It sees 32x32 pixels in colour, or 64x64 of pictures with more than 32: grey is repeated for each colour, larger
    pictures are averaged, smaller ones enlarged bilinearly.
    """

    def __init__(self, attributes: int, size: int):
        super().__init__()
        self.side = 32 if size <= 32 else 64
        rows = [unit(*MAPS[i : i + 2], stride=stride) for i, stride in enumerate(STRIDES[self.side])]
        layers = [layer for row in rows for layer in row]
        # No pooling over the whole picture: an attribute depends on where something is.
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 4 * 4, attributes))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(in_colour(x, self.side))


def train_classifier(train: Dataset, steps: int = STEPS, device: torch.device | str = "cpu") -> AttributeClassifier:
    """Trains an attribute classifier on pictures flipped and shifted at random; the same one each time.

    Examples with an attribute and those without have the same total weight, so that 0 is the best threshold of a logit
    however rare the attribute. AlikitError unless the data has square pictures with attributes.
    """
    if train.labels is None or train.labels.ndim != 2 or len(train.shape) != 3 or train.shape[1] != train.shape[2]:
        raise AlikitError(f"{train.name} has no square pictures with attributes: name data such as faces")
    y, device = train.conditions().float(), torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        classifier = AttributeClassifier(y.shape[1], train.shape[1]).to(device, memory_format=torch.channels_last)
        share = y.mean(0).clamp(1 / len(y), 1 - 1 / len(y))
        weight_with, weight_without = (0.5 / share).to(device), (0.5 / (1 - share)).to(device)
        optimiser = torch.optim.AdamW(classifier.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
        data = train.to(device) if train.fits(device) else train
        for _ in range(steps):
            index = torch.randint(len(train), (BATCH,))
            x, truth = shifted(mirrored(data.floats(index).to(device))), y[index].to(device)
            losses = F.binary_cross_entropy_with_logits(classifier(x), truth, reduction="none")
            optimiser.zero_grad()
            (losses * torch.where(truth > 0, weight_with, weight_without)).mean().backward()
            optimiser.step()
            schedule.step()
    return classifier.eval()


def seen(classifier: nn.Module, x: Tensor) -> Tensor:
    """Which attributes the classifier sees in pictures (N, C, S, S) in [0, 1]: (N, A) bool, on the CPU."""
    device = next(classifier.parameters()).device
    with Game.inference(classifier):
        return torch.cat([classifier(part.to(device)).cpu() > 0 for part in x.split(AT_ONCE)])


def balanced_accuracy(classifier: nn.Module, real: Dataset) -> Tensor:
    """The mean of sensitivity and specificity for each attribute, (A,): 0.5 for guessing, NaN without examples of both
    kinds."""
    found, truth = torch.cat([seen(classifier, x) for x in real.batches(AT_ONCE)]), real.conditions() > 0
    return ((found & truth).sum(0) / truth.sum(0) + (~found & ~truth).sum(0) / (~truth).sum(0)) / 2


@dataclass(frozen=True)
class Switching:
    """What switching each of the A attributes on and off in y changes in n pairs of pictures. Shares are 0..1."""

    asked: Tensor  # (A,) P(seen | on): share of pictures with the attribute switched on in which it is seen
    unasked: Tensor  # (A,) P(seen | off): the floor
    interval: Tensor  # (A,) half the 95 % interval of the difference asked - unasked, over pictures
    drags: Tensor  # (A, A) row a: what switching a on adds to the share in which b is seen; asked - unasked for b = a
    kept: Tensor  # (A,) share of the other attributes seen the same before and after, hair colours without each other
    n: int

    @property
    def accuracy(self) -> Tensor:
        """(A,) share of pictures that agree with y, on and off weighing the same; 0.5 if switches do nothing."""
        return (self.asked + 1 - self.unasked) / 2


def switching(model: Game, classifier: nn.Module, data: Dataset, x: Tensor | None = None) -> Switching:
    """Switches each attribute on and off in the y of at most 2,000 examples of `data`, with the same z.

    z is drawn from the prior by torch's global seed; with `x`, the pictures of all examples, it is the mean of q(z|x)
    for their own y. The rest of y stays, except that one hair colour replaces the others.
    """
    data = data if x is not None else data.some(EXAMPLES)
    y, names, rows = data.conditions(), data.classes, []
    parts = torch.arange(len(y)).split(AT_ONCE)
    z = model.prior(len(y)) if x is None else torch.cat([model.encode(x[i], sample=False, y=y[i]) for i in parts])
    for a, name in enumerate(names):
        both = switched(y, [name], names), y.index_fill(1, torch.tensor(a), 0)
        on, off = (torch.cat([seen(classifier, model.decode(z[i], y=ys[i])) for i in parts]).float() for ys in both)
        half = 1.96 * (on - off)[:, a].std() / math.sqrt(len(y))
        # What should be kept is what y keeps: not the attribute itself and, if it is a hair colour, not the others.
        kept = (on == off).float().mean(0)[(both[0] == both[1]).all(0)].mean()
        rows.append((on[:, a].mean(), off[:, a].mean(), half, (on - off).mean(0), kept))
    return Switching(*map(torch.stack, zip(*rows, strict=True)), len(y))


def attributes(model: Game, train: Dataset, held_out: Dataset, classifier: nn.Module | None = None) -> dict:
    """How well a conditional model follows y: means over the attributes, and under `of` the values of each by name.

    accuracy        share of attributes that agree with y, in pictures drawn for the y of held-out examples
    balanced, kept  `Switching.accuracy` and `kept` for those y; reencoded_ of held-out pictures encoded with their y
    grid, grid_balanced   accuracy and balanced over the attributes of the paper's grid, where the data has them all
    judge           balanced accuracy of the classifier on held-out pictures; without one it is trained here, in minutes
    n, drags        as in `Switching`
    """
    if not model.attributes:
        raise AlikitError("this model is not conditional: train a conditional recipe, see alikit recipes")
    classifier = classifier or train_classifier(train, device=model.device)
    some, names = held_out.some(EXAMPLES), held_out.classes
    switches = {"": switching(model, classifier, some), "reencoded_": switching(model, classifier, some, some.floats())}
    y = some.conditions()
    drawn = torch.cat([seen(classifier, model.sample(len(part), part)) for part in y.split(AT_ONCE)])
    agree, own = (drawn == (y > 0)).float().mean(0), balanced_accuracy(classifier, held_out)
    of = {"share": train.conditions().float().mean(0), "judge": own, "accuracy": agree}
    found = {"accuracy": agree.mean(), "judge": own.nanmean()}
    for prefix, each in switches.items():
        of |= {prefix + kind: getattr(each, kind) for kind in ("asked", "unasked", "interval", "kept")}
        found |= {f"{prefix}balanced": each.accuracy.mean(), f"{prefix}kept": each.kept.mean()}
    found["n"] = len(some)
    if set(NAMED) <= set(names):
        grid = [names.index(name) for name in NAMED]
        found |= {"grid": agree[grid].mean(), "grid_balanced": switches[""].accuracy[grid].mean()}
    # None, which JSON knows, where no held-out picture has an attribute.
    rounded = {k: [round(v, 5) if math.isfinite(v) else None for v in values.tolist()] for k, values in of.items()}
    return {name: float(value) for name, value in found.items()} | {
        "of": {name: {kind: values[a] for kind, values in rounded.items()} for a, name in enumerate(names)},
        "drags": [[round(v, 4) for v in row] for row in switches[""].drags.tolist()],
    }


def class_agreement(model: Game, train: Dataset, held_out: Dataset, network: nn.Module | None = None) -> dict:
    """In which share of pictures, 0..1, a logistic regression on features of real ones sees the class of y.

    accuracy   of pictures drawn for the classes of held-out examples
    switched   of held-out pictures that were encoded as what they are and decoded as the next class: that one
    judge      of the held-out pictures themselves, for comparison: typical pictures are easier than real ones
    confusion  (K, K): for each class asked, the shares of the classes that are seen in pictures drawn for it; zeros for
               a class that no held-out example has
    n          pictures of each kind, at most 2,000

    `network` gives the features of pictures, as in `in_features`. AlikitError for a model without classes as condition.
    """
    if not model.attributes or any(part.labels is None or part.labels.ndim != 1 for part in (train, held_out)):
        raise AlikitError("this model is not conditioned on classes: train a conditional recipe on data with classes")
    some = held_out.some(EXAMPLES)
    drawn = samples_for(model, some)  # before the network is built, which draws its first weights by chance
    network = (network or feature_network()).to(model.device)
    known, truth, k = train.some(TRAIN_EXAMPLES), some.labels.cpu().numpy(), model.attributes

    def features(pictures: Iterable[Tensor]) -> np.ndarray:
        with Game.inference(network):
            return torch.cat([network(x.to(model.device)).float().cpu() for x in pictures]).numpy()

    redrawn = (model.reconstruct(x, sample=False, y=y, to=y.roll(1, 1)) for x, y in examples(model, some, AT_ONCE))
    kinds = [features(pictures) for pictures in (some.batches(AT_ONCE), drawn, redrawn)]
    guesses, *_ = regression(features(known.batches(AT_ONCE)), np.concatenate(kinds), known.labels.cpu().numpy())
    guesses[~np.isfinite(np.concatenate(kinds)).all(1)] = -1  # what is not finite is of no class
    judge, sampled, switched_to = np.split(guesses, 3)
    confusion = np.array([np.bincount(sampled[truth == c] + 1, minlength=k + 1)[1:] for c in range(k)])
    shares = confusion / np.maximum(1, np.bincount(truth, minlength=k))[:, None]
    found = {"accuracy": sampled == truth, "switched": switched_to == (truth + 1) % k, "judge": judge == truth}
    shown = {"n": len(some), "confusion": shares.round(4).tolist()}
    return {name: float(right.mean()) for name, right in found.items()} | shown
