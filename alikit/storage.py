"""Weights small enough to pass on: a network as one safetensors file, in half the numbers or in a quarter, deflated."""

import math
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from .errors import AlikitError

# Bytes of a file, above which weights are stored in 8 bits: a clone should stay small however many runs are recorded.
# On the recorded run of CIFAR-10, 8 bits in the encoder move a number of a code by 0.018 (its sigma is 0.2) and the
# reconstruction error by 0.00001.
LIMIT = 900_000
SCALE = ".scale"
DEFLATED, SHAPE = ".deflated", ".shape"  # what a deflated tensor becomes: its bytes, and its type and shape
DTYPES = (torch.float32, torch.float16, torch.float64, torch.int8, torch.int64, torch.uint8)
WORTH = 4096  # bytes of a tensor, from which on it is deflated


def pack(network: nn.Module, limit: int = LIMIT) -> dict[str, Tensor]:
    """The network's state for a file: weights as float16, or where that would take more than `limit` bytes, in 8 bits.

    In 8 bits an output channel's weights are whole numbers from -127 to 127 times a scale of the channel's own, which
    is stored beside them. What has one dimension, most biases and what batch norm keeps, stays as it is: that is
    little, and a variance may be too small for float16.
    """
    state = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    if sum(tensor.nbytes for tensor in state.values()) <= limit:
        return state
    for place, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            # A transposed convolution keeps its output channels in the second dimension.
            channel = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            rest = [d for d in range(layer.weight.ndim) if d != channel]
            weight, name = layer.weight.detach().float().cpu(), f"{place}.weight"
            scale = weight.abs().amax(rest, keepdim=True).clamp(min=1e-12) / 127
            state[name] = (weight / scale).round().to(torch.int8).contiguous()
            state[name + SCALE] = scale.contiguous()
    return state


def halved(tensors: dict[str, Tensor], limit: int = LIMIT) -> dict[str, Tensor]:
    """Tensors for a file: as they are, or with tables of numbers as float16 where they would take more than `limit`."""
    if sum(tensor.nbytes for tensor in tensors.values()) <= limit:
        return {name: tensor.contiguous() for name, tensor in tensors.items()}
    return {name: _half(tensor) for name, tensor in tensors.items()}


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `halved` has halved, as float32."""
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}


def unpack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A packed state as `load_state_dict` takes it, float32 again."""
    state = inflated(state)
    return {
        name: tensor.float() * state[name + SCALE] if name + SCALE in state else _full(tensor)
        for name, tensor in state.items()
        if not name.endswith(SCALE)
    }


def deflated(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers, bit by bit, in a tenth to a fifth fewer bytes: the first bytes of all of a tensor's numbers,
    then the second ones and so on, as codes without repetitions, of which noise has none."""
    kept = {}
    for name, tensor in tensors.items():
        if tensor.nbytes < WORTH or tensor.dtype not in DTYPES:
            kept[name] = tensor
            continue
        flat = tensor.detach().cpu().contiguous().flatten()
        by_place = flat.view(torch.uint8).view(-1, tensor.element_size()).T.contiguous().numpy().tobytes()
        codes = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
        content = codes.compress(by_place) + codes.flush()
        kept[name + DEFLATED] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        kept[name + SHAPE] = torch.tensor([DTYPES.index(tensor.dtype), *tensor.shape])
    return kept


def inflated(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `deflated` was given; tensors that it left alone stay as they are. SafetensorError for damaged ones."""
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith(DEFLATED):
            found |= {} if name.removesuffix(SHAPE) + DEFLATED in tensors else {name: tensor}
            continue
        name = name.removesuffix(DEFLATED)
        try:
            kind, *shape = tensors[name + SHAPE].tolist()
            by_place = torch.frombuffer(bytearray(zlib.decompress(tensor.numpy().tobytes())), dtype=torch.uint8)
            flat = by_place.view(-1, math.prod(shape)).T.contiguous().flatten().view(DTYPES[kind])
            found[name] = flat.view(shape)
        except (zlib.error, LookupError, RuntimeError):
            raise SafetensorError(f"{name} is damaged") from None
    return found


def to_file(network: nn.Module, limit: int = LIMIT) -> bytes:
    """The packed network as the bytes of a safetensors file."""
    return to_bytes(deflated(pack(network, limit)))


def from_file(network: nn.Module, file: Path) -> None:
    """Loads a packed network. AlikitError where the file is missing, damaged or another network's."""
    try:
        network.load_state_dict(unpack(load_file(file)))
    except OSError:
        raise AlikitError(f"{file} is missing: take the recorded run anew") from None
    except (SafetensorError, RuntimeError):
        raise AlikitError(f"{file} is damaged, or holds another network: take the recorded run anew") from None


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
