"""How good: modes found, and pictures given back."""

from .coverage import Coverage, coverage
from .fidelity import Reconstruction, reconstruction

__all__ = ["Coverage", "Reconstruction", "coverage", "reconstruction"]
