"""How good: modes found, pictures given back, and what the codes keep."""

from .coverage import Coverage, coverage
from .fidelity import Reconstruction, reconstruction
from .latent import Latent, latent
from .measured import found_modes, measured

__all__ = ["Coverage", "Latent", "Reconstruction", "coverage", "found_modes", "latent", "measured", "reconstruction"]
