"""How good: modes found, pictures given back or copied, samples beside real pictures, and what the codes keep."""

from .attributes import AttributeJudge, Switching, attributes, balanced_accuracy, seen, switching, train_judge
from .awake import awake
from .classification import Classification, classification
from .codes import Codes, codes
from .copying import Copying, copying
from .coverage import Coverage, coverage
from .features import FeatureNetwork, Sets, feature_network, in_features, inception
from .fidelity import Fidelity, Reconstruction, fidelity, frechet, precision_recall, reconstruction
from .latent import Latent, latent
from .measured import METRICS, QUICK, found_modes, measured
from .probes import Probe, probe
from .svm import Draws, network_features, svm

__all__ = [
    "METRICS",
    "QUICK",
    "AttributeJudge",
    "Classification",
    "Codes",
    "Copying",
    "Coverage",
    "Draws",
    "FeatureNetwork",
    "Fidelity",
    "Latent",
    "Probe",
    "Reconstruction",
    "Sets",
    "Switching",
    "attributes",
    "awake",
    "balanced_accuracy",
    "classification",
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
    "network_features",
    "precision_recall",
    "probe",
    "reconstruction",
    "seen",
    "svm",
    "switching",
    "train_judge",
]
