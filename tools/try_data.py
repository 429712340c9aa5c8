"""Makes each form of data small and in its real layout, trains ALI on it for 20 steps, and samples: tools/try_data.py"""

import csv
import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import webdataset
from PIL import Image
from torchvision.datasets import FakeData

import alikit

X, Y = np.random.default_rng(0).integers(0, 256, (150, 28, 28), np.uint8), np.arange(150) % 10
NAMES = [f"{i:03}.png" for i in range(150)]
PARTS = {"x_train": X, "y_train": Y, "x_test": X[:50], "y_test": Y[:50]}


def png(x: np.ndarray) -> bytes:
    Image.fromarray(x).save(file := io.BytesIO(), "png")
    return file.getvalue()


def write(at: Path, content: bytes | str) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_bytes(content if isinstance(content, bytes) else content.encode())
    return at


def folder(at: Path, below: str = "", named: str = "{y}/{name}") -> Path:
    for x, y, name in zip(X, Y, NAMES, strict=True):
        write(at / below / named.format(y=y, name=name), png(x))
    return at


def table(at: Path, name: str, header: list[str], values: list[list], pictures: str) -> Path:
    lines = [header, *([file, *row] for file, row in zip(NAMES, values, strict=True))]
    csv.writer(text := io.StringIO()).writerows(lines)
    write(at / name, text.getvalue())
    return folder(at, pictures, "{name}")
