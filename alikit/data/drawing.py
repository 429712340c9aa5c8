"""What the drawn data sets share: chunks, colours, light and noise."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import AlikitError

CHUNK = 256  # pictures drawn at once: few enough that one chunk's tensors stay in a processor's cache

Factors = dict[str, torch.Tensor]


def draw(n: int, seed: int, chunk: Callable[[torch.Generator], tuple[torch.Tensor, Factors]]):
    """n pictures (n, 3, S, S) uint8 and their factors, CHUNK at a time; the first k are the same for every n >= k.

    `chunk` draws CHUNK pictures from a generator. Torch's global random numbers are neither read nor moved.
    """
    if n < 1:
        raise AlikitError(f"n must be at least 1 picture, got {n}")
    if seed < 0:
        raise AlikitError(f"seed must not be negative, got {seed}")
    x, chunks = None, []
    for start in range(0, n, CHUNK):
        # The last chunk is drawn whole and then cut: a shorter draw would give other numbers.
        state = np.random.SeedSequence((seed, start // CHUNK)).generate_state(1)
        pictures, factors = chunk(torch.Generator().manual_seed(int(state[0])))
        x = torch.empty(n, *pictures.shape[1:], dtype=torch.uint8) if x is None else x
        x[start : start + CHUNK] = pictures[: n - start]
        chunks.append(factors)
    return x, {name: torch.cat([factors[name] for factors in chunks])[:n] for name in chunks[0]}


def spread(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """(CHUNK, *shape) float32 in [low, high)."""
    return low + (high - low) * torch.rand(CHUNK, *shape, generator=generator)


def house_colour(luma: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Colours (..., 3) of the given luma (...): greyish, and more often orange or blue than green or pink."""
    tint = torch.randn(*luma.shape, 2, generator=generator)
    cb = 0.07 * tint[..., 0]
    cr = -0.8 * cb + 0.03 * tint[..., 1]
    chroma = torch.stack([1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb], dim=-1)
    # Clamping would change the luma and with it the contrast; fading the colour towards grey keeps it.
    room = torch.where(chroma > 0, 1 - luma[..., None], luma[..., None]) / chroma.abs().clamp_min(1e-6)
    return (luma[..., None] + chroma * room.amin(-1, keepdim=True).clamp_max(1)).clamp(0, 1)


def photograph(picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures (CHUNK, 3, S, S) in [0, 1] under uneven light and with a sensor's noise, as uint8."""
    corners = 1 + 0.2 * (2 * torch.rand(CHUNK, 1, 2, 2, generator=generator) - 1)
    light = F.interpolate(corners, picture.shape[2:], mode="bilinear", align_corners=True)
    noise = 0.02 * torch.randn(picture.shape, generator=generator)
    return noise.add_(picture * light).mul_(255).round_().clamp_(0, 255).to(torch.uint8)
