"""Networks as small safetensors files that anyone can open, and checkpoints that are safe to open."""

import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from . import reading

# Bytes of a file, above which weights are stored in 8 bits: a clone should stay small however many runs are recorded.
# On the recorded run of CIFAR-10, 8 bits in the encoder move a number of a code by 0.018 (its sigma is 0.2) and the
# reconstruction error by 0.00001.
LIMIT = 900_000
SCALE = ".scale"
PICKLE = 2**24  # most bytes of the names and shapes in a checkpoint


def pack(network: nn.Module, limit: int = LIMIT) -> dict[str, Tensor]:
    """The network's state for a file: weights as float16, or as int8 where float16 would take more than `limit` bytes.

    An int8 weight NAME holds -127..127, to be multiplied by NAME.scale, float32, one number for each output channel.
    Tensors of one dimension (biases, batch norm) stay float32: they are small, and float16 loses a small variance.
    """
    state = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        state[name] = tensor.cpu().contiguous().clone()  # a layer may be used twice, and the file has no shared memory
    if sum(tensor.nbytes for tensor in state.values()) <= limit:
        return state
    for place, layer in network.named_modules():
        # Of a layer with spectral or weight norm the state has other names, and stays in float16.
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and f"{place}.weight" in state:
            # A transposed convolution keeps its output channels in the second dimension.
            channel = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            rest = [d for d in range(layer.weight.ndim) if d != channel]
            weight, name = layer.weight.detach().float().cpu(), f"{place}.weight"
            scale = weight.abs().amax(rest, keepdim=True).clamp(min=1e-12) / 127
            state[name] = (weight / scale).round().to(torch.int8).contiguous()
            state[name + SCALE] = scale.contiguous()
    return state


def unpack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A packed state as `load_state_dict` takes it, in float32. RuntimeError for a scale of another shape."""
    full = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    for name in [name for name in full if name.endswith(SCALE)]:
        weight, scale = name.removesuffix(SCALE), full.pop(name)
        full[weight] = full[weight].float().mul_(scale)  # in place, so that no scale can make the weight larger
    return full


def read(file: Path, network: nn.Module) -> dict[str, Tensor]:
    """The unpacked state in a safetensors file, which is no larger than one of this network can be. To be called within
    `reading.boundary`."""
    most = sum(tensor.nbytes for tensor in network.state_dict().values()) + 2**20  # names and shapes come besides
    return unpack(load(reading.content(file, most)))


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads an unpacked state. Raises where a name, shape or type is not the network's, or a number is not finite. To
    be called within `reading.boundary`."""
    own = network.state_dict()
    if not all(tensor.dtype == own[name].dtype and tensor.isfinite().all() for name, tensor in state.items()):
        raise ValueError("another network's, or with numbers that are not finite")
    network.load_state_dict(state)


def to_file(network: nn.Module, limit: int = LIMIT) -> bytes:
    """The packed network as the bytes of a safetensors file."""
    return to_bytes(pack(network, limit))


def from_file(network: nn.Module, file: Path, way: str = "record the run again") -> None:
    """Loads a packed network. AlikitError, which ends in `way`, where the file is missing, damaged or another's."""
    with reading.boundary(file, way):
        fill(network, read(file, network))


def read_archive(file: Path) -> object:
    """What `torch.save` wrote of tensors and plain values; nothing in the file can run code. To be called within
    `reading.boundary`.

    Checks what torch does not: the checksum of each part, and that loading takes about as much memory as the file takes
    space. A deflated part can grow a thousandfold, parts can share their bytes, and a pickle can hold a bytearray of
    any length.
    """
    with reading.opened(file) as found, zipfile.ZipFile(found) as archive, warnings.catch_warnings():
        parts, size = archive.infolist(), found.seek(0, 2)
        pickles = [part for part in parts if part.filename.endswith(".pkl")]
        if (
            any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            or sum(part.file_size for part in parts) > size
            or archive.testzip() is not None
            or any(part.file_size > PICKLE or b"bytearray" in archive.read(part) for part in pickles)
        ):
            raise zipfile.BadZipFile("not as torch.save writes it")
        found.seek(0)
        warnings.simplefilter("ignore")  # of a foreign file, the boundary's error is the one line to show
        return torch.load(found, map_location="cpu", weights_only=True)
