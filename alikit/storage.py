"""Weights small enough to pass on: a network as one safetensors file, in half the numbers or in a quarter, deflated."""

import math
import pickle
import pickletools
import zipfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from . import reading
from .errors import AlikitError

# Bytes of a file, above which weights are stored in 8 bits: a clone should stay small however many runs are recorded.
# On the recorded run of CIFAR-10, 8 bits in the encoder move a number of a code by 0.018 (its sigma is 0.2) and the
# reconstruction error by 0.00001.
LIMIT = 900_000
SCALE = ".scale"
DEFLATED, SHAPE = ".deflated", ".shape"  # what a deflated tensor becomes: its bytes, and its type and shape
DTYPES = (torch.float32, torch.float16, torch.float64, torch.int8, torch.int64, torch.uint8)
# What stands in a pickle of tensors and plain values, by torch.save.
PICKLED = 2**24  # bytes of it, at most
GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
    | {f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Byte", "Bool")}
)
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
        name: _scaled(name, tensor, state[name + SCALE]) if name + SCALE in state else _full(tensor)
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
    """What `deflated` was given; tensors that it left alone stay as they are. SafetensorError for damaged ones, and for
    any that would become more than eight times as large: a code of `deflated` takes a bit at least, and says a byte."""
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith(DEFLATED):
            found |= {} if name.removesuffix(SHAPE) + DEFLATED in tensors else {name: tensor}
            continue
        name = name.removesuffix(DEFLATED)
        try:
            found[name] = _inflated(tensor, tensors[name + SHAPE])
        except (zlib.error, LookupError, ValueError, TypeError, RuntimeError):
            raise SafetensorError(f"{name} is damaged") from None
    return found


def _inflated(tensor: Tensor, about: Tensor) -> Tensor:
    if about.dtype != torch.int64 or about.ndim != 1 or not 1 <= len(about) <= 9 or (about < 0).any():
        raise ValueError("no type and shape")
    kind, *shape = about.tolist()
    size, codes = math.prod(shape) * DTYPES[kind].itemsize, tensor.numpy().tobytes()
    if not 0 < size <= 8 * len(codes):
        raise ValueError("larger than its codes can say")
    reader = zlib.decompressobj()
    by_place = reader.decompress(codes, size + 1)
    if len(by_place) != size or not reader.eof:
        raise ValueError("shorter or longer than its shape")
    flat = torch.frombuffer(bytearray(by_place), dtype=torch.uint8).view(-1, math.prod(shape)).T.contiguous().flatten()
    return flat.view(DTYPES[kind]).view(shape)


def _scaled(name: str, tensor: Tensor, scale: Tensor) -> Tensor:
    if torch.broadcast_shapes(tensor.shape, scale.shape) != tensor.shape:
        raise SafetensorError(f"{name} has a scale of another shape")  # and multiplied by it might fill the memory
    return tensor.float() * scale


def read(file: Path, most: int) -> dict[str, Tensor]:
    """The tensors of a safetensors file. OSError where it cannot be read, SafetensorError where it is damaged or has
    more than `most` bytes."""
    with reading.opened(file) as found:
        content = found.read(most + 1)  # by Python, which opens files whatever they are called
    if len(content) > most:
        raise SafetensorError(f"larger than {most:,} bytes")
    try:
        return load(content)
    except Exception:  # of a type that this PyTorch has not, say
        raise SafetensorError("damaged") from None


def read_archive(file: Path) -> object:
    """What `torch.save` wrote of tensors and plain values; what is read is no more than the file's size. Raises nearly
    anything where it is damaged, and for what `torch.save` does not write of such: then nothing in it has run.

    Each part of the file has a checksum, and lies there as it is, not deflated to a thousandth of its size.
    """
    with reading.opened(file) as found, zipfile.ZipFile(found) as archive:
        parts, size = archive.infolist(), found.seek(0, 2)
        found.seek(-22, 2)
        if found.read(4) != b"PK\5\6":  # elsewhere another reader might find another list of parts
            raise zipfile.BadZipFile("the list of parts is not at the end")
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise zipfile.BadZipFile("deflated")
        if sum(part.file_size for part in parts) > size or archive.testzip() is not None:
            raise zipfile.BadZipFile("damaged")
        (pickled,) = (part for part in parts if part.filename.endswith("/data.pkl"))
        if pickled.file_size > PICKLED:
            raise zipfile.BadZipFile("more than names and shapes")
        # Later protocols, which torch.save does not write, know more ways to name what is to be called.
        for code, argument, _ in pickletools.genops(archive.read(pickled)):
            if code.proto > 2 or (code.name == "GLOBAL" and argument not in GLOBALS):
                raise pickle.UnpicklingError(f"{code.name} {argument}")
    return torch.load(file, map_location="cpu", weights_only=True)


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Loads a state into a network. SafetensorError or RuntimeError unless it is one of this network, in finite
    numbers: with any other every number that the network gives would be none."""
    own = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_complex() or (name in own and tensor.is_floating_point() != own[name].is_floating_point()):
            raise SafetensorError(f"{name} is of another type")
        if not tensor.isfinite().all():
            raise SafetensorError(f"{name} holds numbers that are not finite")
    network.load_state_dict(state)


def room(network: nn.Module) -> int:
    """The most bytes that a file of the network's weights can have."""
    return sum(tensor.nbytes for tensor in network.state_dict().values()) + 2**20  # names and shapes come besides


def to_file(network: nn.Module, limit: int = LIMIT) -> bytes:
    """The packed network as the bytes of a safetensors file."""
    return to_bytes(deflated(pack(network, limit)))


def from_file(network: nn.Module, file: Path) -> None:
    """Loads a packed network. AlikitError where the file is missing, damaged or another network's."""
    try:
        fill(network, unpack(read(file, room(network))))
    except FileNotFoundError:
        raise AlikitError(f"{file} is missing: take the recorded run anew") from None
    except OSError as error:
        raise AlikitError(f"cannot read {file} ({error.strerror}): take the recorded run anew") from None
    except (SafetensorError, RuntimeError):
        raise AlikitError(f"{file} is damaged, or holds another network: take the recorded run anew") from None


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
