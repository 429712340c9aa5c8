"""How good: modes found, pictures given back, and what the codes keep."""

from .coverage import Coverage, coverage
from .fidelity import Reconstruction, reconstruction
from .latent import Latent, latent

__all__ = ["Coverage", "Latent", "Reconstruction", "coverage", "latent", "reconstruction"]
