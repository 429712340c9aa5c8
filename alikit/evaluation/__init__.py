"""How good: modes found, pictures given back or copied, samples beside real pictures, and what the codes keep."""

from .awake import awake
from .codes import Codes, codes
from .copying import Copying, copying
from .coverage import Coverage, coverage
from .features import FeatureNetwork, Sets, feature_network, in_features, inception
from .fidelity import Fidelity, Reconstruction, fidelity, frechet, precision_recall, reconstruction
from .latent import Latent, latent
from .measured import METRICS, QUICK, found_modes, measured
from .probes import Probe, probe

__all__ = [
    "METRICS",
    "QUICK",
    "Codes",
    "Copying",
    "Coverage",
    "FeatureNetwork",
    "Fidelity",
    "Latent",
    "Probe",
    "Reconstruction",
    "Sets",
    "awake",
    "codes",
    "copying",
    "coverage",
    "feature_network",
    "fidelity",
    "found_modes",
    "frechet",
    "in_features",
    "inception",
    "latent",
    "measured",
    "precision_recall",
    "probe",
    "reconstruction",
]
