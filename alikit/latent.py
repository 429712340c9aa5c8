"""A model's latent space as a place to move in: axes that matter, directions with a meaning, nearest codes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import AlikitError
from .reading import boundary
from .runs.records import Recorded


@dataclass(frozen=True)
class Direction:
    """A linear reading of z and the way to change it.

    Readings count in standard deviations of q(z) from its mean. With covariance S, a reading by weights w has the
    standard deviation sqrt(w'Sw), and Sw / sqrt(w'Sw) raises it by one: the change that goes with it on average in the
    codes of data. A step along w itself would raise it too, but leave the codes of data sooner.
    """

    weight: Tensor  # (Z,)
    way: Tensor  # (Z,)
    mean: Tensor  # (Z,)
    quality: str = ""  # in words, how well it reads what it is named after

    def reading(self, z: Tensor) -> Tensor:
        """(..., Z) -> (...)."""
        return (z - self.mean) @ self.weight

    def turned(self, z: Tensor, value: float | Tensor) -> Tensor:
        """The nearest code along the way whose reading is `value`, (..., Z) -> (..., Z)."""
        return z + (value - self.reading(z))[..., None] * self.way


class LatentSpace:
    """The codes of a `Recorded` run: the mean (Z,) of q(z), N held-out `codes` (N, Z), and

    axes      the Z principal axes of q(z) as directions, those of largest variance first
    meanings  directions by name, along which a linear probe reads attributes, classes or factors

    `x_shape` is the shape of an example. AlikitError for a model without an encoder, for a conditional one, and for
    codes and metrics that do not belong together.
    """

    def __init__(self, run: Recorded):
        self.model = run.model
        if self.model.encoder is None:
            raise AlikitError("this run has no encoder, so nothing is known of its codes: choose one that has")
        if self.model.attributes:
            raise AlikitError("this run is conditional: alikit.widgets.Switches is the panel for it")
        with boundary("codes.safetensors", "record it anew"):
            kept = [run.codes[name].float() for name in ("q_mean", "q_covariance", "codes")]
            self.mean, self.covariance, self.codes = kept
            axes = torch.linalg.eigh(self.covariance.double()).eigenvectors  # the largest variance comes last
            self.axes = [self._direction(axis) for axis in axes.T.flip(0).float()]
            self.meanings = self._meanings(run.metrics, run.codes)
        with torch.no_grad():
            self.x_shape = tuple(self.model.decode(self.mean[None]).shape[1:])

    def _direction(self, weight: Tensor, quality: str = "") -> Direction:
        pattern = self.covariance @ weight
        std = (weight @ pattern).clamp(min=1e-12).sqrt()
        return Direction(weight / std, pattern / std, self.mean, quality)

    def _meanings(self, metrics: dict, codes: dict[str, Tensor]) -> dict[str, Direction]:
        """An attribute has a logit of its own; a class has the lead of its logit over the mean of all logits."""
        found = {}
        if "probe_weight" in codes:
            names, weights, each = metrics["probe_names"], codes["probe_weight"], metrics["probe_attributes"]
            words = "{accuracy:.0%} right, guessing {baseline:.0%}"
            if not each:
                weights = weights - weights.mean(0)
                words = "all: {probe_accuracy:.1%} right, guessing {probe_baseline:.1%}"
            for name, weight in zip(names, weights, strict=True):
                found[name] = self._direction(weight, words.format(**metrics | each.get(name, {})))
        for name, weight in zip(metrics.get("factor_r2", {}), codes.get("factor_weight", ()), strict=True):
            found[name] = self._direction(weight, f"R² {metrics['factor_r2'][name]:.2f}")
        return found

    def encode(self, x: Tensor) -> Tensor:
        """The mean code (Z,) of one picture (C, H, W) in [0, 1]. AlikitError for any other."""
        if x.shape != self.x_shape or not (x.min() >= 0 and x.max() <= 1):
            shape = " x ".join(map(str, self.x_shape))
            raise AlikitError(f"this run takes a picture of {shape} (channels, height, width), with pixels from 0 to 1")
        return self.model.encode(x[None], sample=False)[0]

    def neighbours(self, z: Tensor, n: int) -> Tensor:
        """Indices of the n held-out codes nearest to z, the nearest first; of all codes where there are fewer."""
        return (self.codes - z).norm(dim=1).topk(min(n, len(self.codes)), largest=False).indices


def one_code(z: Tensor, z_dim: int) -> Tensor:
    """A copy of z as one code (Z,) on the CPU. AlikitError unless it holds z_dim finite numbers."""
    z = torch.as_tensor(z, dtype=torch.float32).detach().cpu().flatten().clone()
    if len(z) != z_dim or not z.isfinite().all():
        raise AlikitError(f"a code of this model is a tensor of {z_dim} finite numbers")
    return z
