"""How good a model is: its samples beside real data, its codes, what can be read from them, its classes, and what looks
unusual to it.

Each number stands beside its floor or ceiling: what chance, real data or knowing nothing would give.
"""

from .anomaly import Detection, anomaly_scores, detection
from .attributes import (
    AttributeClassifier,
    Switching,
    attributes,
    balanced_accuracy,
    class_agreement,
    seen,
    switching,
    train_classifier,
)
from .features import FeatureNetwork, feature_network, in_features, inception
from .inference import Reconstruction, awake, codes, latent, reconstruction
from .measured import METRICS, OWN_METRICS, QUICK, found_modes, measured
from .probes import probe
from .samples import Coverage, checkerboard, copying, coverage, fidelity, frechet, precision_recall
from .svm import Classification, Draws, classification, network_features, svm

__all__ = [
    "METRICS", "OWN_METRICS", "QUICK", "AttributeClassifier", "Classification", "Coverage", "Detection", "Draws",
    "FeatureNetwork", "Reconstruction", "Switching", "anomaly_scores", "attributes", "awake", "balanced_accuracy",
    "checkerboard", "class_agreement", "classification", "codes", "copying", "coverage", "detection", "feature_network",
    "fidelity", "found_modes", "frechet", "in_features", "inception", "latent", "measured", "network_features",
    "precision_recall", "probe", "reconstruction", "seen", "svm", "switching", "train_classifier",
]  # fmt: skip
