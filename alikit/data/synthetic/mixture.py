"""The toy of paper section 4.5: 25 narrow Gaussians on a 5 x 5 grid, where everything can be computed exactly."""

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ...errors import AlikitError
from ..dataset import Dataset


class GridMixture:
    """q(x): equal-weight isotropic Gaussians whose means form a square grid centred on the origin.

    side * side modes, `spacing` apart, each of standard deviation `std`. The defaults are the paper's: means
    {-4, -2, 0, 2, 4}^2, covariance 0.05^2 I.
    """

    def __init__(self, side: int = 5, spacing: float = 2.0, std: float = 0.05):
        if side < 1 or spacing <= 0 or std <= 0:
            raise AlikitError(f"a grid needs side >= 1, spacing > 0 and std > 0, not {side}, {spacing}, {std}")
        self.std = std
        ticks = (torch.arange(side) - (side - 1) / 2) * spacing
        self.means = torch.cartesian_prod(ticks, ticks)  # (modes, 2)
        self._density = MixtureSameFamily(
            Categorical(logits=torch.zeros(len(self.means))), Independent(Normal(self.means, std), 1)
        )

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """n independent points: x (n, 2) float32, labels (n,) the mode of each. The global generator is untouched."""
        if n < 1:
            raise AlikitError(f"cannot draw {n} points: choose at least 1")
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(len(self.means), (n,), generator=generator)
        x = self.means[labels] + self.std * torch.randn(n, 2, generator=generator)
        return Dataset("mixture", x, labels, tuple(map(str, range(len(self.means)))))

    def holds(self, x: Tensor) -> bool:
        """Whether most of the points (N, D) lie where its modes are."""
        return x.shape[1] == 2 and bool((self.nearest_mode(x.float().cpu())[1] < 5).float().mean() > 0.5)

    def log_density(self, x: Tensor) -> Tensor:
        """log q(x) in nats, (N, 2) -> (N,)."""
        return self._density.log_prob(x)

    def responsibilities(self, x: Tensor) -> Tensor:
        """q(mode | x), (N, 2) -> (N, modes); rows sum to 1, also far from every mode."""
        return (-self._distances(x).square() / (2 * self.std**2)).softmax(1)

    def nearest_mode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mode with the largest responsibility (N,), and the distance to its mean in standard deviations (N,)."""
        distance, mode = self._distances(x).min(1)
        return mode, distance / self.std

    def _distances(self, x: Tensor) -> Tensor:
        # The default takes |x|^2 - 2xm + |m|^2, which near a mean is wrong by a tenth of a standard deviation.
        return torch.cdist(x, self.means, compute_mode="donot_use_mm_for_euclid_dist")
