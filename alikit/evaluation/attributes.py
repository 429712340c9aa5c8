"""Whether what a conditional model was asked for is there, and whether the rest stays as it was.

A judge, a small classifier trained on real pictures, looks at generated ones. It is no better than its own balanced
accuracy on held-out real pictures, which stands beside whatever it says.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.conditions import NAMED, switched
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from ..views import mirrored, shifted

STEPS, BATCH, RATE = 3_000, 64, 2e-3
ASKED = 2_000  # pictures judged for each attribute, at most
AT_ONCE = 250
_ROWS = {  # channels in, out, stride: from 32 or 64 pixels a side to 4
    32: ((3, 32, 1), (32, 64, 2), (64, 96, 2), (96, 128, 2)),
    64: ((3, 32, 2), (32, 64, 2), (64, 96, 2), (96, 128, 2), (128, 128, 1)),
}


class AttributeJudge(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1], S 32 or 64, to a logit for each attribute, (N, A); above 0 it is seen."""

    def __init__(self, attributes: int, size: int):
        super().__init__()
        layers: list[nn.Module] = []
        for fan_in, fan_out, stride in _ROWS[size]:
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
        # No pooling over the whole picture: where something is, tells what it is.
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 4 * 4, attributes))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.contiguous(memory_format=torch.channels_last))


def train_judge(
    train: Dataset, steps: int = STEPS, seed: int = 0, device: torch.device | str = "cpu"
) -> AttributeJudge:
    """A judge of the attributes of these pictures, trained on them mirrored and shifted.

    Those with an attribute and those without count alike, however rare it is, so that a logit of 0 is where the two are
    told apart best. AlikitError for data without attributes, or not of square pictures in colour.
    """
    if train.labels is None or train.labels.ndim != 2:
        raise AlikitError(
            f"{train.name} has no attributes to be judged: only data with attributes can be, such as faces"
        )
    if len(train.shape) != 3 or train.shape[0] != 3 or train.shape[1:] not in ((32, 32), (64, 64)):
        raise AlikitError("a judge of attributes looks at pictures in colour of 32x32 or 64x64: name others")
    y, devices = train.conditions().float(), [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        judge = AttributeJudge(y.shape[1], train.shape[1]).to(device, memory_format=torch.channels_last)
        share = y.mean(0).clamp(1 / len(y), 1 - 1 / len(y))
        weights = (0.5 / (1 - share)).to(device), (0.5 / share).to(device)
        optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
        data = train.to(device) if train.fits(device) else train
        for _ in range(steps):
            index = torch.randint(len(train), (BATCH,))
            x, truth = shifted(mirrored(data.floats(index).to(device))), y[index].to(device)
            each = F.binary_cross_entropy_with_logits(judge(x), truth, reduction="none")
            loss = (each * torch.where(truth > 0, weights[1], weights[0])).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def seen(judge: nn.Module, x: Tensor) -> Tensor:
    """What the judge sees in pictures (N, 3, S, S) in [0, 1]: (N, A) bool, on the CPU."""
    device = next(judge.parameters()).device
    return torch.cat([judge(part.to(device)).cpu() > 0 for part in x.split(AT_ONCE)])


def balanced_accuracy(judge: nn.Module, real: Dataset) -> Tensor:
    """For each attribute the mean of the share of those with it in which it is seen, and of those without in which it
    is not: (A,), 0.5 for a judge that guesses. Not a number where the pictures have only one of the two kinds."""
    found = torch.cat([seen(judge, x) for x in real.batches(AT_ONCE)])
    truth = real.conditions() > 0
    return torch.stack([_share(found & truth, truth), _share(~found & ~truth, ~truth)]).mean(0)


def _share(right: Tensor, of: Tensor) -> Tensor:
    return right.sum(0) / of.sum(0)


@dataclass(frozen=True)
class Switching:
    """What `switching` found of each attribute a, with A in all; shares are 0..1.

    asked     (A,) share of pictures asked to have it in which it is seen, P(seen | asked)
    unasked   (A,) of the same pictures asked not to have it, P(seen | not asked)
    interval  (A,) half the 95 % interval of the difference asked - unasked, over pictures
    drags     (A, A) row a: by how much the share of pictures in which b is seen rises when a is switched on; the
              diagonal is asked - unasked
    kept      (A,) share of the other attributes of which the judge says the same before and after; hair colours are
              left out of each other's
    changed   (A,) mean absolute difference of a pixel between the two pictures
    n         pairs of pictures for each attribute
    """

    asked: Tensor
    unasked: Tensor
    interval: Tensor
    drags: Tensor
    kept: Tensor
    changed: Tensor
    n: int

    @property
    def accuracy(self) -> Tensor:
        """(A,) share of the pictures that are as they were asked to be, with it and without counting alike."""
        return (self.asked + 1 - self.unasked) / 2


def switching(
    model: Game, judge: nn.Module, data: Dataset, x: Tensor | None = None, n: int = ASKED, batch_size: int = AT_ONCE
) -> Switching:
    """Switches one attribute after the other on and off, in what n examples of `data` say and with the same z.

    data   whose y the model is told, but for the attribute in question
    x      pictures of the same examples, to be encoded with their own y; by default z is drawn from the prior, by
           torch's global seed

    The rest of y stays as it is, but that a hair colour takes the others back.
    """
    data = data if x is not None else data.some(n)
    y, names = data.conditions(), data.classes
    if len(y) < 2:
        raise AlikitError("what a switch does is counted over pictures: name data that holds out at least 2")
    _check(model, judge, y)
    if x is None:
        z = model.prior(len(y))
    else:
        parts = zip(x.split(batch_size), y.split(batch_size), strict=True)
        z = torch.cat([model.encode(v.to(model.device), sample=False, y=told) for v, told in parts])
    rows = [_switch(model, judge, z, y, a, names, batch_size) for a in range(len(names))]
    on, off, half, drags, kept, changed = (torch.stack(v) for v in zip(*rows, strict=True))
    return Switching(on, off, half, drags, kept, changed, len(y))


def _switch(model: Game, judge: nn.Module, z: Tensor, y: Tensor, a: int, names: tuple[str, ...], batch_size: int):
    looks, distance = [], 0.0
    with_it, without = (switched(y, [sign + names[a]], names) for sign in ("", "-"))
    for part in torch.arange(len(y)).split(batch_size):
        on, off = (model.decode(z[part], y=told[part]).cpu() for told in (with_it, without))
        looks.append(torch.stack([seen(judge, on), seen(judge, off)]))
        distance += (on - off).abs().flatten(1).mean(1).sum()
    on, off = torch.cat(looks, dim=1)
    difference = on.float() - off.float()
    half = 1.96 * difference[:, a].std() / math.sqrt(len(y))
    # A hair colour changes the others by what it is; and the attribute itself is to change.
    rest = (with_it == without).all(0)
    kept = (on == off).float().mean(0)[rest].mean()
    return on[:, a].float().mean(), off[:, a].float().mean(), half, difference.mean(0), kept, distance / len(y)


def as_asked(model: Game, judge: nn.Module, y: Tensor, batch_size: int = AT_ONCE) -> Tensor:
    """For each attribute the share of pictures, one drawn for each row of y (N, A), in which it is as asked: (A,)."""
    _check(model, judge, y)
    found = torch.cat([seen(judge, model.sample(len(part), part)) for part in y.split(batch_size)])
    return (found == (y > 0)).float().mean(0)


def attributes(model: Game, train: Dataset, held_out: Dataset, judge: nn.Module | None = None) -> dict:
    """Everything above of one model, averaged over the attributes, and under `of` for each of them by name.

    judge  by default one is trained on `train`: some minutes

    accuracy   share of attributes that are as asked, in pictures drawn for the y of held-out ones
    balanced   the same with and without counting alike, each attribute switched on and off in those y: chance has 0.5
    grid, grid_balanced   the two over the attributes that the paper's grid names, where the data has them all
    judge      balanced accuracy of the judge on held-out pictures
    kept       share of the other attributes that stay as they are when one is switched
    reencoded_balanced, reencoded_kept   likewise of held-out pictures, encoded with their y and decoded with another
    n          pictures for each attribute
    of         for each attribute the same, asked, unasked and interval as in `Switching`, and its share in `train`
    drags      as in `Switching`
    """
    if not model.attributes:
        raise AlikitError("this model is told no attributes: train a conditional recipe, see alikit recipes")
    judge = judge or train_judge(train, device=model.device)
    some = held_out.some(ASKED)
    fresh, again = switching(model, judge, some), switching(model, judge, some, some.floats())
    plain, own = as_asked(model, judge, some.conditions()), balanced_accuracy(judge, held_out)
    share = train.conditions().float().mean(0)
    named = [held_out.classes.index(name) for name in NAMED if name in held_out.classes]
    kinds = {
        "share": share,
        "judge": own,
        "accuracy": plain,
        "asked": fresh.asked,
        "unasked": fresh.unasked,
        "interval": fresh.interval,
        "kept": fresh.kept,
        "reencoded_asked": again.asked,
        "reencoded_unasked": again.unasked,
        "reencoded_interval": again.interval,
        "reencoded_kept": again.kept,
    }
    whole = {
        "accuracy": plain.mean(),
        "judge": own.nanmean(),
        "balanced": fresh.accuracy.mean(),
        "kept": fresh.kept.mean(),
        "reencoded_balanced": again.accuracy.mean(),
        "reencoded_kept": again.kept.mean(),
        "n": fresh.n,
    }
    if len(named) == len(NAMED):
        whole |= {"grid": plain[named].mean(), "grid_balanced": fresh.accuracy[named].mean()}
    numbers = {name: float(value) for name, value in whole.items()}
    return numbers | {
        "of": {
            name: {kind: _number(values[a]) for kind, values in kinds.items()}
            for a, name in enumerate(held_out.classes)
        },
        "drags": [[round(v, 4) for v in row] for row in fresh.drags.tolist()],
    }


def _number(value: Tensor) -> float | None:
    """None, which JSON knows, for the judge of an attribute that no held-out picture has."""
    return round(float(value), 5) if value.isfinite() else None


def _check(model: Game, judge: nn.Module, y: Tensor) -> None:
    model.condition(y, len(y))
    linear = [layer for layer in judge.modules() if isinstance(layer, nn.Linear)]
    if linear and linear[-1].out_features != y.shape[1]:
        raise AlikitError(f"this judge knows {linear[-1].out_features} attributes, and y has {y.shape[1]}")
