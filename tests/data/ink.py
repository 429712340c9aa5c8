"""What the drawn pictures show, read off their colours."""

import torch
from torch import Tensor

from alikit.data import Dataset

LUMA = torch.tensor([0.299, 0.587, 0.114])


def coverage(data: Dataset) -> Tensor:
    """How much ink (N, S, S) is in each pixel, 0 for paper and 1 for ink."""
    ink, paper = (data.factors[name][:, :, None, None] for name in ("ink", "paper"))
    return ((data.floats() - paper) * (ink - paper)).sum(1) / (ink - paper).square().sum(1)


def cut_by_the_edge(ink: Tensor) -> bool:
    return bool(torch.cat([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], dim=1).any())


def centre_and_angle(ink: Tensor) -> tuple[Tensor, Tensor]:
    """Of ink (N, S, S) the centre of mass (N, 2) from the picture's, x right and y down in pixels, and the direction of
    its long axis (N,) in degrees counter-clockwise, in [0, 180)."""
    ticks = torch.arange(ink.shape[1]) + 0.5 - ink.shape[1] / 2
    share = ink.float() / ink.sum((1, 2), keepdim=True)
    x, y = (share * ticks).sum((1, 2)), (share * ticks[:, None]).sum((1, 2))
    dx, dy = ticks - x[:, None, None], y[:, None, None] - ticks[:, None]  # y up
    xx, xy, yy = ((share * product).sum((1, 2)) for product in (dx * dx, dx * dy, dy * dy))
    return torch.stack([x, y], dim=1), torch.rad2deg(torch.atan2(2 * xy, xx - yy) / 2) % 180
