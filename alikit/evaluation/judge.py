"""A judge of rendered pictures: one small network that reads every factor off the pixels, of originals or of what a
model made of them. `tools/what_z_keeps.py` trains one."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import storage
from ..data import house_numbers
from ..data.dataset import Dataset
from ..errors import AlikitError
from .factors import asked

_ROWS = ((3, 32, 1), (32, 64, 2), (64, 96, 2), (96, 96, 2))  # channels in, out, stride: 32 32 16 8 4 pixels a side


class Judge(nn.Module):
    """Pictures (N, 3, 32, 32) in [0, 1] to answers about each factor of `data`, in the form of `asked`; untrained.

    No pooling over the whole picture, so that places can be read. AlikitError for pictures of another shape.
    """

    def __init__(self, data: Dataset):
        super().__init__()
        truth = asked(data.factors)
        self.names, self.kinds = tuple(truth), {name for name, v in truth.items() if v.ndim == 1}
        self.widths = [1 + int(v.max()) if v.ndim == 1 else v.shape[1] for v in truth.values()]
        layers: list[nn.Module] = []
        for fan_in, fan_out, stride in _ROWS:
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 4 * 4, sum(self.widths)))
        # Numbers are learned in standard deviations, all of them alike whatever their unit.
        numbers = {name: v for name, v in truth.items() if v.is_floating_point()}
        self.mean = nn.ParameterDict({name: nn.Parameter(v.mean(0), False) for name, v in numbers.items()})
        self.scale = nn.ParameterDict({name: nn.Parameter(v.std(0), False) for name, v in numbers.items()})

    def _said(self, x: Tensor) -> dict[str, Tensor]:
        """Of each factor logits, or numbers in standard deviations from their mean."""
        return dict(zip(self.names, self.net(x).float().split(self.widths, dim=1), strict=True))

    def loss(self, x: Tensor, truth: dict[str, Tensor]) -> Tensor:
        """Cross-entropies, and of numbers the squared error in standard deviations, summed over the factors."""
        losses = []
        for name, said in self._said(x).items():
            of = truth[name]
            if name in self.scale:
                losses.append(F.mse_loss(said, (of - self.mean[name]) / self.scale[name]))
            elif name in self.kinds:
                losses.append(F.cross_entropy(said, of))
            else:
                losses.append(F.binary_cross_entropy_with_logits(said, of.float()))
        return torch.stack(losses).sum()

    @torch.no_grad()
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if x.shape[1:] != (3, 32, 32):
            raise AlikitError(f"the judge looks at pictures (N, 3, 32, 32), not {tuple(x.shape)}")
        return {name: self._answer(name, said) for name, said in self._said(x).items()}

    def _answer(self, name: str, said: Tensor) -> Tensor:
        if name in self.scale:
            return said * self.scale[name] + self.mean[name]
        return said.argmax(1) if name in self.kinds else said > 0


def trained_judge(file: str | Path) -> Judge:
    """The judge of house numbers that is kept in a file. AlikitError where it is missing or damaged."""
    judge = Judge(house_numbers(1000)).eval()
    storage.from_file(judge, Path(file))
    return judge
