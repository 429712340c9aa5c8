"""What the small data sets on the disk are made of, so that tests can say what must come out."""

import hashlib
from pathlib import Path

import numpy as np

WNIDS = ("n02124075", "n01443537", "n04067472")  # as in the published list, not in the order of the alphabet
ATTRIBUTES = tuple(f"Attribute_{i:02}" for i in range(40))


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
