"""Random flips and shifts of pictures, and noise, which leave what they show unchanged."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def noisy(x: Tensor, spread: float) -> Tensor:
    """x, of any shape, plus Gaussian noise of that standard deviation; x itself for 0."""
    return x + spread * torch.randn_like(x) if spread else x


def mirrored(x: Tensor) -> Tensor:
    """The pictures (N, C, H, W), each mirrored left to right with probability 1/2."""
    turned = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(turned, x.flip(3), x)


def shifted(x: Tensor) -> Tensor:
    """The pictures (N, C, H, W), each moved by a whole number of pixels in both directions, up to a sixteenth of the
    shorter side and at least up to 1; the edge is repeated where it leaves a gap. In channels_last."""
    height, width = x.shape[2:]
    most = max(1, min(height, width) // 16)
    wide = pad(x, (most,) * 4, mode="replicate").permute(0, 2, 3, 1)
    down, right = torch.randint(2 * most + 1, (2, len(x), 1), device=x.device)
    rows = down + torch.arange(height, device=x.device)
    columns = right + torch.arange(width, device=x.device)
    examples = torch.arange(len(x), device=x.device)[:, None, None]
    return wide[examples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
