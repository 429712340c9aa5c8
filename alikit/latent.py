"""A model's latent space as a place to move about in: axes that matter, directions that mean something, neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import AlikitError
from .runs.records import Recorded


@dataclass(frozen=True)
class Direction:
    """A linear reading of z that can be turned: `reading` says how much of it is in a code, `turned` changes that.

    Both count in standard deviations of q(z), from its mean. With covariance S, a reading by weights w has the standard
    deviation sqrt(w'Sw); the way that raises it by one is Sw / sqrt(w'Sw), the change that on average goes with it in
    the codes of data. (To go along w itself would raise it too, and leave the codes of data sooner.)
    """

    weight: Tensor  # (Z,)
    way: Tensor  # (Z,)
    mean: Tensor  # (Z,)
    quality: str = ""  # how well it reads what it is called, in words

    def reading(self, z: Tensor) -> Tensor:
        """(..., Z) -> (...)."""
        return (z - self.mean) @ self.weight

    def turned(self, z: Tensor, value: float | Tensor) -> Tensor:
        """The nearest code along the way whose reading is `value`; (..., Z) -> (..., Z)."""
        return z + (value - self.reading(z))[..., None] * self.way


class LatentSpace:
    """The codes of a `Recorded` run: q(z) by its mean (Z,) and covariance (Z, Z), 500 held-out codes (N, Z), and

    axes      its principal axes, (Z) directions, those along which codes differ most first
    meanings  directions that a linear probe reads attributes, classes or factors from, by name

    AlikitError, in one line, where what the run keeps does not fit its model, or is missing.
    """

    def __init__(self, run: Recorded):
        self.model, z_dim = run.model, run.model.z_dim
        if self.model.encoder is None:
            raise AlikitError("this run has no encoder, so nothing is known of its codes")
        if self.model.attributes:
            raise AlikitError("this run is told y as well as z: alikit.widgets.Switches is the panel for that")
        try:
            self.mean, covariance, self.codes = (run.codes[k].float() for k in ("q_mean", "q_covariance", "codes"))
        except KeyError as error:
            raise AlikitError(f"this run keeps no {error.args[0]}: record it anew with alikit record") from None
        if (self.mean.shape, covariance.shape, *self.codes.shape[1:]) != ((z_dim,), (z_dim, z_dim), z_dim):
            raise AlikitError(f"this run keeps codes that are not of its model's {z_dim} numbers: record it anew")
        if not (len(self.codes) and all(v.isfinite().all() for v in (self.mean, covariance, self.codes))):
            raise AlikitError("this run keeps no codes, or some that are no numbers: record it anew")
        self._covariance = covariance
        axes = torch.linalg.eigh(covariance.double()).eigenvectors  # the largest variance last
        self.axes = [self._direction(axis) for axis in axes.T.flip(0).float()]
        try:
            self.meanings = self._attributes(run) | self._factors(run)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            raise AlikitError("what this run keeps of its probes is damaged: record it anew") from None
        with torch.no_grad():
            self.x_shape = tuple(self.model.decode(self.mean[None]).shape[1:])

    def _direction(self, weight: Tensor, quality: str = "") -> Direction:
        pattern = self._covariance @ weight
        std = (weight @ pattern).clamp(min=1e-12).sqrt()
        return Direction(weight / std, pattern / std, self.mean, quality)

    def _attributes(self, run: Recorded) -> dict[str, Direction]:
        """Attributes have a logit of their own. A class has the lead of its logit over the mean of all."""
        if "probe_weight" not in run.codes:
            return {}
        names, weights, m = run.metrics["probe_names"], run.codes["probe_weight"], run.metrics
        if m["probe_attributes"]:
            of = m["probe_attributes"]
            quality = {name: f"{of[name]['accuracy']:.0%} right, guessing {of[name]['baseline']:.0%}" for name in names}
        else:
            weights = weights - weights.mean(0)
            told = f"all: {m['probe_accuracy']:.1%} right, guessing {m['probe_baseline']:.1%}"
            quality = dict.fromkeys(names, told)
        return {n: self._direction(w, quality[n]) for n, w in zip(names, weights, strict=True)}

    def _factors(self, run: Recorded) -> dict[str, Direction]:
        found = zip(run.metrics.get("factor_r2", {}).items(), run.codes.get("factor_weight", ()), strict=True)
        return {name: self._direction(w, f"R² {r2:.2f}") for (name, r2), w in found}

    def check(self, z: Tensor) -> Tensor:
        """z as one code (Z,) of this model. AlikitError for any other size, and where something is no number."""
        try:
            z = torch.as_tensor(z, dtype=torch.float32).detach().cpu().flatten()
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError(f"a code of this run is a tensor of {len(self.mean)} numbers") from None
        if len(z) != len(self.mean):
            raise AlikitError(f"a code of this run has {len(self.mean)} numbers, not {len(z)}")
        if not z.isfinite().all():
            raise AlikitError("this code holds something that is no number, so there is nothing to show")
        return z

    def encode(self, x: Tensor) -> Tensor:
        """The mean code (Z,) of one picture in [0, 1], (C, H, W) or (1, C, H, W). AlikitError for any other."""
        try:
            x = torch.as_tensor(x, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError("a picture is a tensor of channels, height and width") from None
        x = x[None] if x.ndim == len(self.x_shape) else x
        if tuple(x.shape) != (1, *self.x_shape):
            wanted, given = (" x ".join(map(str, shape)) for shape in (self.x_shape, x.shape))
            raise AlikitError(f"this run takes one picture of {wanted} (channels, height, width), not {given}")
        if not (x.min() >= 0 and x.max() <= 1):  # nor where something is no number
            raise AlikitError("pixels go from 0 to 1 here: divide those from 0 to 255 by 255")
        return self.model.encode(x, sample=False)[0]

    def neighbours(self, z: Tensor, n: int) -> Tensor:
        """Which n of the held-out codes are nearest to z, (n,), the nearest first; fewer where there are fewer."""
        return (self.codes - z).norm(dim=1).topk(min(n, len(self.codes)), largest=False).indices
