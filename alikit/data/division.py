"""Which pictures of a folder or table without splits are held out: each by its own name, and by nothing else."""

import hashlib
import os
from collections.abc import Sequence
from itertools import compress

import numpy as np
import torch
from torch import Tensor


def held_out_by_name(names: Sequence[str]) -> Tensor:
    """For each name whether it is held out, (N,) bool: the tenth with the smallest hashes."""
    hashes = (int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:4]) for name in names)
    shares = torch.from_numpy(np.fromiter(hashes, np.float64, len(names))) / 2**32
    held_out = shares < 0.1
    # In a handful of pictures the rule may choose none or all; both parts need one.
    held_out[shares.argmin()] = True
    held_out[shares.argmax()] = False
    return held_out


def held_out_last(items: list, names: Sequence[str]) -> list:
    """The items with those last whose names are held out, so that each part is one stretch of the cache."""
    held_out = held_out_by_name(names)
    return [*compress(items, (~held_out).tolist()), *compress(items, held_out.tolist())]
