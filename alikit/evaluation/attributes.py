"""Whether a conditional model's pictures have the attributes of y, and whether the rest stays as it was.

An attribute classifier, trained on real pictures, looks at generated ones. It is no better than its own balanced
accuracy on held-out real pictures, the ceiling of whatever it says.
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
from .features import unit

STEPS, BATCH, RATE = 3_000, 64, 2e-3
ASKED = 2_000  # pictures looked at for each attribute, at most
AT_ONCE = 250
_ROWS = {  # channels in, out, stride: from 32 or 64 pixels a side to 4
    32: ((3, 32, 1), (32, 64, 2), (64, 96, 2), (96, 128, 2)),
    64: ((3, 32, 2), (32, 64, 2), (64, 96, 2), (96, 128, 2), (128, 128, 1)),
}


class AttributeJudge(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1], S 32 or 64, to a logit for each attribute, (N, A); above 0 it is seen."""

    def __init__(self, attributes: int, size: int):
        super().__init__()
        layers = [layer for *maps, stride in _ROWS[size] for layer in unit(*maps, stride=stride)]
        # No pooling over the whole picture: where something is, tells what it is.
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 4 * 4, attributes))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.contiguous(memory_format=torch.channels_last))


def train_judge(train: Dataset, steps: int = STEPS, device: torch.device | str = "cpu") -> AttributeJudge:
    """Trains an attribute classifier on these pictures, flipped and shifted at random; always the same one.

    Examples with an attribute and those without weigh the same, however rare it is, so that a logit of 0 is where the
    two are told apart best. AlikitError for data without attributes, or other than RGB pictures of 32x32 or 64x64.
    """
    if train.labels is None or train.labels.ndim != 2:
        raise AlikitError(f"{train.name} has no attributes to be judged: name data with attributes, such as faces")
    if train.shape not in ((3, 32, 32), (3, 64, 64)):
        raise AlikitError("a judge of attributes looks at pictures in colour of 32x32 or 64x64: name others")
    y, device = train.conditions().float(), torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        judge = AttributeJudge(y.shape[1], train.shape[1]).to(device, memory_format=torch.channels_last)
        share = y.mean(0).clamp(1 / len(y), 1 - 1 / len(y))
        with_it, without = (0.5 / share).to(device), (0.5 / (1 - share)).to(device)
        optimiser = torch.optim.AdamW(judge.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
        data = train.to(device) if train.fits(device) else train
        for _ in range(steps):
            index = torch.randint(len(train), (BATCH,))
            x, truth = shifted(mirrored(data.floats(index).to(device))), y[index].to(device)
            each = F.binary_cross_entropy_with_logits(judge(x), truth, reduction="none")
            loss = (each * torch.where(truth > 0, with_it, without)).mean()  # its own `weight` rounds otherwise
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def seen(judge: nn.Module, x: Tensor) -> Tensor:
    """Which attributes the classifier sees in pictures (N, 3, S, S) in [0, 1]: (N, A) bool, on the CPU."""
    device = next(judge.parameters()).device
    return torch.cat([judge(part.to(device)).cpu() > 0 for part in x.split(AT_ONCE)])


def balanced_accuracy(judge: nn.Module, real: Dataset) -> Tensor:
    """The mean of two shares of each attribute, (A,): of examples with it in which it is seen, and of those without in
    which it is not. 0.5 for guessing; not a number where the pictures have only one of the two kinds."""
    found, truth = torch.cat([seen(judge, x) for x in real.batches(AT_ONCE)]), real.conditions() > 0
    shares = [(found & truth).sum(0) / truth.sum(0), (~found & ~truth).sum(0) / (~truth).sum(0)]
    return torch.stack(shares).mean(0)


@dataclass(frozen=True)
class Switching:
    """What switching each of the A attributes on and off in y changes in n pairs of pictures. Shares are 0..1."""

    asked: Tensor  # (A,) share of pictures with the attribute switched on in which it is seen, P(seen | on)
    unasked: Tensor  # (A,) the same of the pictures with it switched off, P(seen | off): the floor
    interval: Tensor  # (A,) half the 95 % interval of the difference asked - unasked, over pictures
    drags: Tensor  # (A, A) row a: what switching a on adds to the share in which b is seen; asked - unasked for b = a
    kept: Tensor  # (A,) share of the other attributes seen the same before and after, hair colours without each other
    n: int

    @property
    def accuracy(self) -> Tensor:
        """(A,) share of the pictures that are as y says, on and off weighing the same; 0.5 if switches do nothing."""
        return (self.asked + 1 - self.unasked) / 2


def switching(model: Game, judge: nn.Module, data: Dataset, x: Tensor | None = None, n: int = ASKED) -> Switching:
    """Switches one attribute after the other on and off in the y of n examples of `data`, with the same z.

    z is drawn from the prior by torch's global seed; with `x`, the pictures of all examples, it is the mean of q(z|x)
    for their own y. The rest of y stays, except that one hair colour replaces the others. AlikitError for fewer than 2
    examples, and for a classifier of other attributes.
    """
    data = data if x is not None else data.some(n)
    y, names = data.conditions(), data.classes
    if len(y) < 2:
        raise AlikitError("what a switch does is counted over pictures: name data that holds out at least 2")
    parts = torch.arange(len(y)).split(AT_ONCE)
    if x is None:
        z = model.prior(len(y))
    else:
        z = torch.cat([model.encode(x[part], sample=False, y=y[part]) for part in parts])
    rows = []
    for a, name in enumerate(names):
        looks = []
        with_it, without = switched(y, [name], names), switched(y, ["-" + name], names)
        for part in parts:
            on, off = (model.decode(z[part], y=conditions[part]).cpu() for conditions in (with_it, without))
            looks.append(torch.stack([seen(judge, on), seen(judge, off)]))
        on, off = torch.cat(looks, dim=1).float()
        if on.shape != y.shape:
            raise AlikitError(f"this judge knows {on.shape[1]} attributes, and y has {y.shape[1]}")
        difference = on - off
        half = 1.96 * difference[:, a].std() / math.sqrt(len(y))
        # Neither the attribute itself is to be kept, nor, if it is a hair colour, the others.
        kept = (on == off).float().mean(0)[(with_it == without).all(0)].mean()
        rows.append((on[:, a].mean(), off[:, a].mean(), half, difference.mean(0), kept))
    return Switching(*map(torch.stack, zip(*rows, strict=True)), len(y))


def attributes(model: Game, train: Dataset, held_out: Dataset, judge: nn.Module | None = None) -> dict:
    """All of the above in one table, means over the attributes, and under `of` each of them by name.

    accuracy   share of attributes that are as y says, in pictures drawn for the y of held-out ones
    balanced   `Switching.accuracy` in those y; led by reencoded_, of held-out pictures encoded with their own y
    kept       share of the other attributes that stay as they are when one is switched; reencoded_kept likewise
    grid, grid_balanced   accuracy and balanced over the attributes of the paper's grid, where the data has them all
    judge      balanced accuracy of the classifier on held-out pictures; by default one is trained here, in some minutes
    n, drags   as in `Switching`
    """
    if not model.attributes:
        raise AlikitError("this model is told no attributes: train a conditional recipe, see alikit recipes")
    judge = judge or train_judge(train, device=model.device)
    some, names = held_out.some(ASKED), held_out.classes
    switches = {"": switching(model, judge, some), "reencoded_": switching(model, judge, some, some.floats())}
    y = some.conditions()
    drawn = torch.cat([seen(judge, model.sample(len(part), part)) for part in y.split(AT_ONCE)])
    plain, own = (drawn == (y > 0)).float().mean(0), balanced_accuracy(judge, held_out)
    of = {"share": train.conditions().float().mean(0), "judge": own, "accuracy": plain}
    whole = {"accuracy": plain.mean(), "judge": own.nanmean()}
    for prefix, found in switches.items():
        of |= {prefix + kind: getattr(found, kind) for kind in ("asked", "unasked", "interval", "kept")}
        whole |= {f"{prefix}balanced": found.accuracy.mean(), f"{prefix}kept": found.kept.mean()}
    whole["n"] = switches[""].n
    if set(NAMED) <= set(names):
        grid = [names.index(name) for name in NAMED]
        whole |= {"grid": plain[grid].mean(), "grid_balanced": switches[""].accuracy[grid].mean()}
    # None, which JSON knows, for the judge of an attribute that no held-out picture has.
    rounded = {
        kind: [round(v, 5) if math.isfinite(v) else None for v in values.tolist()] for kind, values in of.items()
    }
    return {name: float(value) for name, value in whole.items()} | {
        "of": {name: {kind: values[a] for kind, values in rounded.items()} for a, name in enumerate(names)},
        "drags": [[round(v, 4) for v in row] for row in switches[""].drags.tolist()],
    }
