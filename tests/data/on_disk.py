"""What the small data sets on the disk are made of, so that tests can say what must come out."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from alikit import AlikitError, load

WNIDS = ("n02124075", "n01443537", "n04067472")  # as in the published list, not in the order of the alphabet
ATTRIBUTES = tuple(f"Attribute_{i:02}" for i in range(40))


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(file: Path, array: np.ndarray, kind: int = 8) -> None:
    """Writes MNIST's format, bytes by default."""
    content = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


GREY, COLOUR = noise(0, 30, 9, 8), noise(1, 30, 9, 8, 3)  # rows and columns differ, so that none is taken for the other
LABELS = np.arange(30, dtype=np.uint8) % 3


def check(parts, pictures, labels, classes=("0", "1", "2"), lengths=None) -> None:
    """The parts are these pictures (N, H, W, C) and labels, the first of them to train on."""
    train, held_out = parts
    pictures = torch.from_numpy(pictures.reshape(*pictures.shape[:3], -1)).permute(0, 3, 1, 2)
    if lengths:
        assert (len(train), len(held_out)) == lengths
        assert torch.equal(torch.cat([train.x, held_out.x]), pictures)
        order = torch.arange(len(pictures))
    else:  # a tenth, at random
        assert len(held_out) == max(1, len(pictures) // 10) and len(train) + len(held_out) == len(pictures)
        seen = {picture.numpy().tobytes(): at for at, picture in enumerate(pictures)}
        order = torch.tensor([seen[x.numpy().tobytes()] for x in torch.cat([train.x, held_out.x])])
        assert order.unique().numel() == len(pictures)
    for part in parts:
        assert part.x.dtype == torch.uint8 and part.classes == (tuple(classes) if labels is not None else ())
    if labels is None:
        assert train.labels is None and held_out.labels is None
    else:
        found = torch.cat([train.labels, held_out.labels])
        assert found.dtype == torch.int64 and found.tolist() == torch.as_tensor(labels).long()[order].tolist()


def refused(source, message: str, **how) -> None:
    with pytest.raises(AlikitError, match=message) as raised:
        load(source, **how)
    assert "\n" not in str(raised.value)
