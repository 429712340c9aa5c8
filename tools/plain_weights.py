"""Rewrite every tracked safetensors file that alikit has deflated in a format of its own as a plain one.

    python tools/plain_weights.py

A deflated tensor NAME was two: NAME.deflated (the first bytes of all its numbers, then the second bytes and so on, by
zlib) and NAME.shape (the number of its type, then its shape). The numbers stay the same, bit for bit.
"""

import subprocess
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DTYPES = (torch.float32, torch.float16, torch.float64, torch.int8, torch.int64, torch.uint8)


def plain(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file, inflated."""
    found = {}
    for name, tensor in stored.items():
        if name.endswith(".deflated"):
            name = name.removesuffix(".deflated")
            kind, *shape = stored[f"{name}.shape"].tolist()
            by_place = torch.frombuffer(bytearray(zlib.decompress(tensor.numpy())), dtype=torch.uint8)
            numbers = by_place.view(DTYPES[kind].itemsize, -1).T.contiguous().flatten()
            found[name] = numbers.view(DTYPES[kind]).view(shape)
        elif f"{name.removesuffix('.shape')}.deflated" not in stored:
            found[name] = tensor
    return found


if __name__ == "__main__":
    tracked = subprocess.run(["git", "ls-files", "*.safetensors"], capture_output=True, text=True, check=True)
    for file in map(Path, tracked.stdout.splitlines()):
        before, stored = file.stat().st_size, load_file(file)
        if any(name.endswith(".deflated") for name in stored):
            save_file(plain(stored), file)
            print(f"{file}: {before:,} -> {file.stat().st_size:,} bytes")
