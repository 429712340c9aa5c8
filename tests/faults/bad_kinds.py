"""Every kind of file that the project reads: how a good one is made, what reads it, and which ones are hostile."""

import hashlib
import io
import json
import os
import pickle
import shutil
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from bad import Change, Hostile, Kind, put
from PIL import Image
from safetensors.torch import load_file, save
from scipy.io import savemat
from torchvision import datasets

import alikit.__main__  # noqa: F401  # what the command line imports, once
from alikit import runs, storage, studies
from alikit.data import celeba, cifar10, downloads, load, published, svhn, tiny_imagenet
from alikit.data.faces import write_celeba
from alikit.data.sources import digits
from alikit.evaluation import Coverage
from alikit.evaluation import features as feature_networks
from alikit.runs import records, report
from alikit.settings import NEEDED
from alikit.studies import STUDIES
from benchmarks import report as benchmark_report

ROOT = Path(__file__).resolve().parents[2]
Some = Iterator[tuple[str, bytes | Change]]
STEPS = 20  # of a run of the study
DIGITS = digits()


def deflate_bomb(size: int) -> bytes:
    codes = zlib.compressobj(9)
    block = bytes(2**20)
    return b"".join(codes.compress(block) for _ in range(-(-size // len(block)))) + codes.flush()


def named(changes: dict[str, object], write: Callable[[object], bytes]) -> Some:
    return ((name, write(content)) for name, content in changes.items())


# Pictures.


def _pets(suffix: str) -> Change:
    def make(folder: Path) -> None:
        for number, pet in enumerate(("cat", "cat", "dog", "dog")):
            file = folder / "pets" / pet / f"{number}{suffix if number == 0 else '.png'}"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(file)

    return make


def _read_pets(folder: Path) -> None:
    parts = load(f"folder:{folder / 'pets'}", 8)
    assert {part.shape for part in parts} == {(3, 8, 8)} and sum(map(len, parts)) >= 3


def _saved(picture: Image.Image, kind: str, **how) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png_of(width: int, height: int, bits: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _hostile_png(whole: bytes) -> Some:
    for side in (13_000, 20_000):  # a few KB, and a GB decoded
        yield f"{side}x{side} in black and white", _png_of(side, side, 1, 0, deflate_bomb(side * (side // 8 + 1)))
    yield "2**31 pixels wide", _png_of(2**31 - 1, 2**31 - 1, 8, 2, b"")
    yield "no pixels", _png_of(0, 0, 8, 2, b"")
    yield "number of unknown unit", _saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")


def _odd_png(whole: bytes) -> Some:
    yield "text that unfolds to 100 MB", whole[:33] + _chunk(b"zTXt", b"a\0\0" + deflate_bomb(10**8)) + whole[33:]
    yield "a hundred times that", whole[:33] + _chunk(b"zTXt", b"a\0\0" + deflate_bomb(10**6)) * 100 + whole[33:]
    yield "profile that unfolds", whole[:33] + _chunk(b"iCCP", b"a\0\0" + deflate_bomb(10**8)) + whole[33:]
    yield "EXIF of nonsense", whole[:33] + _chunk(b"eXIf", b"MM\0*" + b"\xff" * 200) + whole[33:]
    yield "EXIF that turns it", _saved(Image.open(io.BytesIO(whole)), "PNG", exif=_turned())
    for mode in ("1", "L", "LA", "P", "RGBA"):
        yield f"mode {mode}", _saved(Image.new("L", (24, 32), 7).convert(mode), "PNG")
    yield "16 bits of grey", _saved(Image.fromarray(np.full((24, 32), 40_000, np.uint16)), "PNG")
    yield "transparent colour of a palette", _saved(Image.new("P", (24, 32), 3), "PNG", transparency=3)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _hostile_jpeg(whole: bytes) -> Some:
    frame = whole.index(b"\xff\xc0") + 5
    yield "65,500 pixels a side", whole[:frame] + struct.pack(">HH", 65_500, 65_500) + whole[frame + 4 :]


def _odd_jpeg(whole: bytes) -> Some:
    loop = b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0"
    for about, exif in (("nonsense", b"MM\0*" + b"\xff" * 200), ("a loop", loop)):
        marked = b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif
        yield f"EXIF of {about}", whole[:2] + marked + whole[2:]
    yield "CMYK", _saved(Image.new("CMYK", (32, 24)), "JPEG")
    yield "grey", _saved(Image.new("L", (32, 24)), "JPEG")


# Tables.


def _make_table(folder: Path) -> None:
    rows = [f"{number}.png,train,{number % 2},1" for number in range(4)] + ["4.png,valid,0,1", "5.png,valid,1,1"]
    (folder / "faces" / "images").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "faces" / "images" / f"{number}.png")
    (folder / "faces" / "attributes.csv").write_text("\n".join(["image,split,Young,Bald", *rows]) + "\n")


def _hostile_table(whole: bytes) -> Some:
    changes = {
        "outside the folder": whole.replace(b"0.png", b"../images/0.png"),
        "at the root": whole.replace(b"0.png", b"/0.png"),
        "nul in a name": whole.replace(b"0.png", b"\0.png"),
        "commands to the terminal": whole.replace(b"0.png", b"\x1b]0;title\x07\x1b[2J.png"),
        "an open quotation": whole.replace(b"0.png", b'"0.png'),
        "a field of 1 MB": whole.replace(b"0.png", b"0" * 10**6),
        "a line of 20 MB": whole + b"," * 20_000_000,
        "100,000 columns": b"image" + b"".join(b",a%d" % number for number in range(100_000)),
        "a name of a column over two lines": whole.replace(b"Young", b'"Young\n\x1b[2J"').replace(b",1\n", b",2\n"),
        "2 million blank lines": b"image,a\n" + b"\n" * 2_000_000 + b"1,2,3",
        "UTF-16": whole.decode().encode("utf-16"),
        "values as words": whole.replace(b",1\n", b",yes\n"),
    }
    return iter(changes.items())


# Published data sets, with the checksums of small ones.


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _make_cifar(folder: Path) -> None:
    place, listed = folder / "cifar-10-batches-py", []
    place.mkdir()
    for name in [f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]:
        content = pickle.dumps({"labels": [*range(10)], "data": np.zeros((10, 3072), np.uint8)}, protocol=2)
        (place / name).write_bytes(content)
        listed.append([name, md5(content)])
    meta = pickle.dumps({"label_names": [*"abcdefghij"]}, protocol=2)
    (place / "batches.meta").write_bytes(meta)
    datasets.CIFAR10.train_list, datasets.CIFAR10.test_list = listed[:5], listed[5:]
    datasets.CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)}


def _make_svhn(folder: Path) -> None:
    file = folder / "train_32x32.mat"
    savemat(file, {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((4, 1), np.uint8)}, do_compression=True)
    datasets.SVHN.split_list = {"train": ["http://svhn.invalid", file.name, md5(file.read_bytes())]}


def _true(name: str, content: bytes) -> Change:
    """A table as a stranger would write it, who writes its checksum too."""

    def change(folder: Path) -> None:
        put(f"celeba/{name}", content)(folder)
        marker = folder / "celeba" / published.DRAWN
        known = json.loads(marker.read_text())
        known["md5"][name] = md5(content)
        marker.write_text(json.dumps(known))

    return change


def _hostile_celeba(whole: bytes) -> Some:
    name = "list_attr_celeba.txt"
    lines = whole.split(b"\n")
    changes = {
        "empty": b"",
        "words": whole.replace(b"-1", b"no"),
        "other numbers": whole.replace(b"-1", b"70"),
        "fewer columns": b"\n".join(line.rpartition(b" ")[0] for line in lines),
        "a row less": b"\n".join(lines[:-2]) + b"\n",
        "numbers beyond 64 bits": whole.replace(b"-1", b"9" * 30),
        "zeros": bytes(len(whole)),
        "not UTF-8": whole.replace(b"000001", b"\xff\xff"),
    }
    for about, content in changes.items():
        yield f"{about}, checksum true", _true(name, content)
    for name_of_it in ("../secret.jpg", "/000001.jpg", "../img_align_celeba/000001.jpg", "\x1b[2J"):
        said = "".join(f"{name_of_it if n == 1 else f'{n:06}.jpg'} {0 if n < 17 else 1}\n" for n in range(1, 21))
        yield f"picture {name_of_it!r}, checksum true", _true("list_eval_partition.txt", said.encode())
    yield "partition of words, checksum true", _true("list_eval_partition.txt", b"000001.jpg train\n")
    yield "no partition, checksum true", _true("list_eval_partition.txt", b"")
    yield "people of nonsense, checksum true", _true("identity_CelebA.txt", b"\0" * 100)


def _hostile_marker(whole: bytes) -> Some:
    known = json.loads(whole)
    changes = {"a list": [], "null": None, "no checksums": {"md5": None}, "names only": {"md5": [*known["md5"]]}}
    changes |= {about: {"md5": dict.fromkeys(known["md5"], said)} for about, said in (("numbers", 1), ("words", "x"))}
    return named(changes, lambda said: json.dumps(said).encode())


def _make_tiny(folder: Path) -> None:
    place = folder / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        (place / "train" / wnid / "images").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / "train" / wnid / "images" / f"{wnid}_0.JPEG")
    (place / "val" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(place / "val" / "images" / "val_0.JPEG")
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t1\n")
    (place / "wnids.txt").write_text("n01\nn02")
    (place / "words.txt").write_text("n01\tentity\nn02\tfish\n")
    (folder / "secret").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "secret" / "0.JPEG")


def _read_tiny(folder: Path) -> None:
    train, held_out = (tiny_imagenet(folder, split, size=8) for split in ("train", "val"))
    assert len(train) in (1, 2) and len(held_out) == 1


def _hostile_wnids(whole: bytes) -> Some:
    yield from {
        "outside the folder": b"../../../secret",
        "the folder above": b"..\nn01\nn02",
        "here": b".\nn01\nn02",
        "at the root": b"/\nn01\nn02",
        "with a folder": b"n01/images\nn01\nn02",
        "of another system": b"..\\..\\secret\nn01\nn02",
        "of another disk": b"C:\nn01\nn02",
        "twice": b"n01\nn01\nn02",
        "commands to the terminal": b"\x1b[2Jn01",
        "nul": b"\0n01\nn02",
        "long": b"n" * 10**6,
        "large": b"n01\n" * 5_000_000,
    }.items()
    for line in ("../../secret/0.JPEG", "../images/val_0.JPEG", "", "\0"):
        yield f"validation {line!r}", put("tiny-imagenet-200/val/val_annotations.txt", f"{line}\tn01\n".encode())
    yield "validation of a strange class", put("tiny-imagenet-200/val/val_annotations.txt", b"val_0.JPEG\t\x1b[2J\n")


def _make_archive(folder: Path) -> None:
    check = downloads.md5
    # As if the checksum were true.
    downloads.md5 = lambda file: published.TINY_MD5 if file.stat().st_size < downloads.LARGEST else check(file)
    _make_tiny(folder)
    shutil.make_archive(folder / "tiny-imagenet-200", "zip", folder, "tiny-imagenet-200")
    shutil.rmtree(folder / "tiny-imagenet-200")
    shutil.rmtree(folder / "secret")


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as parts:
        for about, content in members:
            parts.addfile(about, io.BytesIO(content))
    return file.getvalue()


def _member(name: str, content: bytes = b"", **how) -> tuple[tarfile.TarInfo, bytes]:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    for key, value in how.items():
        setattr(about, key, value)
    return about, content


def _zip(*members: tuple[str, bytes], **how) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        for name, content in members:
            about = zipfile.ZipInfo(name)
            for key, value in how.items():
                setattr(about, key, value)
            parts.writestr(about, content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _hostile_archive(whole: bytes) -> Some:
    inside, link = "tiny-imagenet-200/link", {"type": tarfile.SYMTYPE, "linkname": "../../.."}
    yield "tar outside the folder", _tar(_member("../../trace", b"x"))
    yield "tar at the root", _tar(_member("/trace", b"x"))
    yield "tar with a link out", _tar(_member(inside, **link), _member(f"{inside}/trace", b"x"))
    yield "tar with a hard link", _tar(_member(inside, type=tarfile.LNKTYPE, linkname="../../../trace"))
    yield "tar with a pipe", _tar(_member(inside, type=tarfile.FIFOTYPE))
    yield "tar with a device", _tar(_member(inside, type=tarfile.CHRTYPE, devmajor=1, devminor=3))
    yield "tar that says it holds 8 PB", _header_of_a_tar(2**53)
    yield "zip outside the folder", _zip(("../../trace", b"x"))
    yield "zip at the root", _zip(("/trace", b"x"))
    yield "zip of another disk", _zip(("C:/trace", b"x"))
    yield "zip of another system", _zip(("..\\..\\trace", b"x"))
    yield "zip with a link out", _zip((inside, b"../../.."), external_attr=0o120777 << 16)
    bomb = bytearray(_zip(*((f"tiny-imagenet-200/{number}", b"x") for number in range(300))))
    place = -1
    while (place := bomb.find(b"PK\1\2", place + 1)) >= 0:
        bomb[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    yield "zip that says it holds 1.2 TB", bytes(bomb)


def _header_of_a_tar(size: int) -> bytes:
    about = tarfile.TarInfo("tiny-imagenet-200/bomb")
    about.size = size
    return about.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)


# Weights.


def _settings(**other) -> dict:
    trained = {"batch_size": 64, "lr": 1e-4, "betas": [0.5, 0.999], "decay": False, "averaging": 0.9}
    given = {"data": "digits", "size": None, "skip_corrupt": False, "seed": 0, "steps": 2, "decoder": None}
    made = {"command": "alikit train digits", "versions": {"torch": "2"}, "number_of_classes": 10}
    return {"format": 1, "recipe": "digits", **given, **trained, **made, "x_shape": [1, 8, 8], **other}


def _make_run(folder: Path) -> None:
    place = folder / "run"
    place.mkdir()
    runs.write_settings(place, _settings())
    trainer = runs.trainer(_settings(), DIGITS)
    trainer.run(2)
    runs.save(place, trainer)
    for step in (1, 2):
        runs.log(place, {"step": step, "images_per_second": 100, "seconds": step, "discriminator": 0.5})
    runs.log(place, {"step": 2, "reconstruction_mean": 0.5})  # it is at its end, and to resume it needs no training


def _read_run(folder: Path) -> None:
    model = runs.load_model(folder / "run")
    torch.manual_seed(0)
    x = model.sample(2)
    assert x.shape == (2, 1, 8, 8) and x.isfinite().all()


def _changed_tensors(whole: bytes, change: Callable[[dict], dict | None]) -> bytes:
    tensors = {name: tensor.clone() for name, tensor in load_into(whole).items()}
    return save(change(tensors) or tensors)


def _scratch() -> str:
    return str(Path.cwd() / "scratch")


def _header(said: object, rest: bytes = b"") -> bytes:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + rest


def _strange_tensors(whole: bytes) -> Some:
    """Files that are in good form, of tensors that are not the network's."""
    floating = next(n for n, t in sorted(load_into(whole).items()) if t.is_floating_point() and t.ndim == 1)

    def with_one(tensor: Callable[[torch.Tensor], torch.Tensor]) -> bytes:
        return _changed_tensors(whole, lambda all: {**all, floating: tensor(all[floating])})

    yield "a NaN", with_one(lambda t: torch.full_like(t, torch.nan))
    yield "an infinity", with_one(lambda t: torch.full_like(t, torch.inf))
    yield "complex numbers", with_one(lambda t: t.to(torch.complex64))
    yield "whole numbers", with_one(lambda t: t.long())
    yield "another shape", with_one(lambda t: t[None])
    yield "none of it", save({})
    yield "one missing", _changed_tensors(whole, lambda all: {n: t for n, t in all.items() if n != floating})
    yield "one too many", _changed_tensors(whole, lambda all: {**all, "decoder.more": torch.zeros(2)})
    bomb, whats_in_it = deflate_bomb(2**28), {"x": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}
    codes = torch.frombuffer(bytearray(bomb), dtype=torch.uint8)
    for about, shape in {
        "bomb": [5, 2**28],
        "bomb that says it is small": [0, 2],
        "bomb of many dimensions": [5] + [1] * 10**6,
        "of a type before the first": [-1, 4],
        "of an unknown type": [99, 4],
        "of negative size": [0, -4],
        "of no size": [0, 0],
        "of a size beyond 64 bits": [0, 2**62, 2**62],
    }.items():
        inflated = {floating + storage.DEFLATED: codes, floating + storage.SHAPE: torch.tensor(shape)}
        yield f"deflated {about}", _changed_tensors(whole, lambda all, new=inflated: {**all, **new})
    wide = {floating: torch.ones(20_000, 1), floating + storage.SCALE: torch.ones(1, 20_000)}
    yield "a scale that widens it", _changed_tensors(whole, lambda all: {**all, **wide})
    yield "header longer than the file", struct.pack("<Q", 2**60) + whole[8:]
    yield "header nested deeply", _header(b"[" * 100_000)
    yield "header of 90 MB", _header(b'{"x":{' + b" " * 90_000_000)
    yield "header is a list", _header([])
    whats_in_it["x"] |= {"shape": [2**62, 2], "data_offsets": [0, 2**63]}
    yield "shape beyond 64 bits", _header(whats_in_it)
    twice = {n: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for n in "ab"}
    yield "offsets that overlap", _header(twice, bytes(16))


def load_into(whole: bytes) -> dict[str, torch.Tensor]:
    Path(_scratch()).write_bytes(whole)
    return load_file(_scratch())


# Records: one of the repository's.


def _make_record(folder: Path) -> None:
    shutil.copytree(ROOT / "results" / "conditional-faces", folder / "run", ignore=shutil.ignore_patterns("*.png"))


def _read_record(folder: Path) -> None:
    record = records.recorded(folder / "run")
    assert all(tensor.isfinite().all() for tensor in record.codes.values()) and isinstance(record.metrics, dict)


def _strange_codes(whole: bytes) -> Some:
    yield "a NaN", _changed_tensors(whole, lambda all: {**all, "q_mean": torch.full_like(all["q_mean"], torch.nan)})
    yield "complex", _changed_tensors(whole, lambda all: {**all, "q_mean": all["q_mean"].to(torch.complex64)})
    yield "no mean", _changed_tensors(whole, lambda all: {n: t for n, t in all.items() if n != "q_mean"})
    yield "a mean of another length", _changed_tensors(whole, lambda all: {**all, "q_mean": torch.zeros(3)})
    bomb = {"labels.deflated": torch.frombuffer(bytearray(deflate_bomb(2**28)), dtype=torch.uint8)}
    bomb["labels.shape"] = torch.tensor([5, 2**28])
    yield "bomb", _changed_tensors(whole, lambda all: {**all, **bomb})


def _make_results(folder: Path) -> None:
    _make_record(folder)
    marks = [report.BEGIN, report.END, report.ASKED_BEGIN, report.ASKED_END]
    (folder / "README.md").write_text("\n".join(marks))


def _read_report(folder: Path) -> None:
    assert report.write_report(folder) == 1


def _strange_metrics(whole: bytes) -> Some:
    known = json.loads(whole)
    changes = {"a list": [], "null": None, "a number": 3, "nothing": {}}
    for name in ("fidelity_frechet", "attributes_of", "copying_share", "probe_n", "attributes_grid"):
        for about, value in {"word": "x", "list": [1], "object": {"a": 1}}.items():
            changes[f"{name} a {about}"] = {**known, name: value}
    changes["no examples of the probe"] = {**known, "probe_n": 0}
    changes["NaN"] = {**known, "fidelity_frechet": float("nan")}
    changes["infinity"] = {**known, "fidelity_frechet": float("inf")}
    return named(changes, lambda said: json.dumps(said).encode())


def _make_features(folder: Path) -> None:
    shutil.copy(feature_networks.FILE, folder / "network.safetensors")


def _read_features(folder: Path) -> None:
    network = feature_networks.feature_network(folder / "network.safetensors")
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 160)


# The cache: what is damaged there is made anew from the pictures, so nothing is refused.


def _make_cache(folder: Path) -> None:
    _pets(".png")(folder)
    os.environ["ALIKIT_CACHE"] = str(folder)
    # By the place of a case, not that of the template: that is in the file's name.
    place = folder.parent / "work" / "case"
    shutil.copytree(folder, place)
    os.environ["ALIKIT_CACHE"] = str(place)
    load(f"folder:{place / 'pets'}", 8)
    (file,) = place.glob("*.safetensors")
    shutil.copy(file, folder / "cache.safetensors")
    (folder / "name").write_text(file.name)


def _read_cache(folder: Path) -> None:
    (folder / "cache.safetensors").rename(folder / (folder / "name").read_text())
    train, held_out = load(f"folder:{folder / 'pets'}", 8)
    assert train.classes == ("cat", "dog") and len(train) + len(held_out) == 4
    for part in (train, held_out):
        assert part.shape == (3, 8, 8) and set(part.labels.tolist()) <= {0, 1}
        part.conditions(), part.floats()


def _strange_cache(whole: bytes) -> Some:
    tensors = {n: t.clone() for n, t in load_into(whole).items()}

    def known(said: object) -> torch.Tensor:
        return torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)

    good = {"classes": ["cat", "dog"], "unreadable": []}
    for about, change in {
        "fewer labels": {"labels": tensors["labels"][:2]},
        "labels of a third class": {"labels": tensors["labels"] + 5},
        "labels below 0": {"labels": tensors["labels"] - 9},
        "labels of floats": {"labels": tensors["labels"].float()},
        "labels in three dimensions": {"labels": tensors["labels"][:, None, None]},
        "x of floats": {"x": tensors["x"].float()},
        "x of one dimension": {"x": tensors["x"].flatten()},
        "more pictures": {"x": tensors["x"].repeat(2, 1, 1, 1), "labels": tensors["labels"].repeat(2)},
        "known is a list": {"known": known([])},
        "known is nothing": {"known": known({})},
        "classes are numbers": {"known": known({**good, "classes": [1, 2]})},
        "classes are one word": {"known": known({**good, "classes": "ab"})},
        "some could not be read": {"known": known({**good, "unreadable": ["cat/0.png"]})},
        "known nested deeply": {"known": torch.full((100_000,), ord("["), dtype=torch.uint8)},
        "x goes missing": {"x": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)},
    }.items():
        content = save({**tensors, **change})
        yield about, content
        yield f"{about}, in our form", _in_our_form({**tensors, **change})


def _in_our_form(tensors: dict[str, torch.Tensor]) -> bytes:
    header, rest, begin = {}, b"", 0
    kinds = {torch.uint8: "U8", torch.int64: "I64", torch.float32: "F32"}
    for name in ("x", "known", "labels"):
        tensor = tensors[name].contiguous()
        end = begin + tensor.nbytes
        header[name] = {"dtype": kinds[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [begin, end]}
        rest, begin = rest + tensor.numpy().tobytes(), end
    text = json.dumps(header).encode().ljust(4096 - 8)
    return struct.pack("<Q", len(text)) + text + rest


# Settings, logs, checkpoints.


def _bad_settings(whole: bytes) -> Some:
    wrong = {
        "recipe": [None, 3, [], {}, "gone"],
        "batch_size": ["64", 0, 1, -1, 1e6, 10**30, True, None, [64]],
        "number_of_classes": [10**12, 0, -1, "10", 1.5, True],
        "number_of_attributes": [10**12, "10"],
        "x_shape": [[], [1, 8], [1, 8, 8, 8], [10**9, 8, 8], [0, 8, 8], ["1", 8, 8], [1, 8.0, 8], "188", 64, None, {}],
        "seed": [-1, 2**32, 1.5, "0", None],
        "steps": ["2", 0, -5, 1.5, 10**30, None],
        "lr": ["0.1", -1, None, [1e-4]],
        "betas": [[0.5], [0.5, 2], ["a", "b"], 0.5, None, [0.5, 0.999, 0.9]],
        "decay": [1, "yes", None],
        "averaging": [1, 1.5, "0.9", None],
        "size": ["8", 0, -1, 10**9],
        "labels": [-1, "50", None],
        "data": [None, 3, "a\0b", "x" * 100_000],
        "decoder": [3, [], "\0"],
        "decoder_from_run": [".", "../run", "/nowhere", "\0", 3],
        "versions": [3, [], {"torch": []}],
        "digest": [3, "abc", [1, 2], [1, 2, "3"]],
        "format": [2, "1", None],
        "classes": ["ab", [1], {}],
    }
    good = json.loads(whole)
    for name, values in wrong.items():
        for value in values:
            yield f"{name}: {value!r:.30}", json.dumps({**good, name: value}).encode()
    for name in NEEDED:
        yield f"no {name}", json.dumps({key: value for key, value in good.items() if key != name}).encode()
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        yield f"lr: {text}", whole.replace(b'"lr": 0.0001', b'"lr": ' + text.encode())
    yield "a number of 5,000 digits", whole.replace(b'"seed": 0', b'"seed": ' + b"9" * 5000)
    yield "a list", b"[]"
    yield "a megabyte of blanks", whole + b" " * 2**20
    yield "objects nested deeply", b'{"format":' * 50_000


def _read_settings(folder: Path) -> None:
    _read_run(folder)
    known = runs.settings(folder / "run")
    trainer = runs.trainer(known, DIGITS)
    assert trainer.batch_size == known["batch_size"]


def _bad_log(whole: bytes) -> Some:
    for about, line in {
        "a number": b"3",
        "a list": b"[]",
        "null": b"null",
        "no step": b'{"seconds": 1}',
        "a step in words": b'{"step": "3"}',
        "a step between": b'{"step": 1.5}',
        "a step before the first": b'{"step": -1}',
        "a step of true": b'{"step": true}',
        "words": b'{"step": 3, "seconds": "long"}',
        "a list in it": b'{"step": 3, "generator": [1]}',
        "seconds without end": b'{"step": 3, "seconds": Infinity}',
        "seconds of 400 digits": b'{"step": 3, "seconds": 1' + b"0" * 400 + b"}",
        "seconds before the start": b'{"step": 3, "seconds": -5}',
        "nothing": b"",
        "not UTF-8": b'{"step": 3, "a\xff": 1}',
        "5,000 digits": b'{"step": ' + b"9" * 5000 + b"}",
        "nested deeply": b"[" * 100_000,
        "3 MB": b'{"step": 3, "a' + b"a" * 3_000_000 + b'": 1}',
    }.items():
        yield f"a line of {about}", line + b"\n" + whole
        if about not in ("nothing", "not UTF-8", "5,000 digits", "nested deeply", "3 MB"):
            yield f"a last line of {about}", whole + line + b"\n"


def _read_log(folder: Path) -> None:
    found = runs.metrics(folder / "run")
    max((line.get("seconds", 0) for line in found), default=0)
    runs.rewind_log(folder / "run", 1)


def _read_checkpoint(folder: Path) -> None:
    trainer = runs.trainer(runs.settings(folder / "run"), DIGITS)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    random = torch.get_rng_state()
    state = runs.checkpoint(folder / "run")
    try:
        runs.go_on(folder / "run", trainer, state)
    except ValueError:
        after = trainer.model.state_dict()
        assert trainer.step == 0 and all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert torch.equal(random, torch.get_rng_state()), "what was refused has changed the random state"
        raise
    trainer.run(trainer.step + 1)


def _bad_states(whole: bytes) -> Some:
    def changed(change: Callable[[dict], object]) -> bytes:
        state = torch.load(io.BytesIO(whole), weights_only=True)
        change(state)
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def moments(state: dict) -> dict:
        return state["optimiser"]["state"][0]

    def group(state: dict) -> dict:
        return state["optimiser"]["param_groups"][0]

    def one(tensors: dict) -> str:
        return next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim == 2)

    for step in (-1, 10**30, "2", 2.0, None, True, torch.tensor(2)):
        yield f"step {step!r}", changed(lambda s, step=step: s.update(step=step))
    for name in ("step", "model", "optimiser", "random", "average"):
        yield f"no {name}", changed(lambda s, name=name: s.pop(name))
        yield f"{name} a word", changed(lambda s, name=name: s.update({name: "x"}))
        yield f"{name} a list", changed(lambda s, name=name: s.update({name: [1]}))
    yield "bf16 a word", changed(lambda s: s.update(bf16="yes"))
    yield "random state of zeros", changed(lambda s: s["random"].zero_())
    yield "random state too short", changed(lambda s: s.update(random=s["random"][:100].clone()))
    yield "random state of floats", changed(lambda s: s.update(random=s["random"].float()))
    yield "CUDA's random state a word", changed(lambda s: s.update(random_cuda="x"))
    yield "CUDA's random state of words", changed(lambda s: s.update(random_cuda=["x"]))
    for part in ("model", "average"):
        yield f"{part} with a NaN", changed(lambda s, p=part: s[p][one(s[p])].fill_(torch.nan))
        yield f"{part} with a number", changed(lambda s, p=part: s[p].update({one(s[p]): 3}))
        yield f"{part} turned", changed(lambda s, p=part: s[p].update({one(s[p]): s[p][one(s[p])][:-1].clone()}))
        yield f"{part} complex", changed(lambda s, p=part: s[p].update({one(s[p]): s[p][one(s[p])].cfloat()}))
        yield f"{part} sparse", changed(lambda s, p=part: s[p].update({one(s[p]): s[p][one(s[p])].to_sparse()}))
        yield f"{part} with one missing", changed(lambda s, p=part: s[p].pop(one(s[p])))
    for name in ("exp_avg", "exp_avg_sq", "step"):
        yield f"{name} missing", changed(lambda s, n=name: moments(s).pop(n))
        yield f"{name} of another shape", changed(lambda s, n=name: moments(s).update({n: torch.zeros(3)}))
        yield f"{name} of another type", changed(lambda s, n=name: moments(s).update({n: moments(s)[n].double()}))
        yield f"{name} a number", changed(lambda s, n=name: moments(s).update({n: 3.0}))
        yield f"{name} with a NaN", changed(lambda s, n=name: moments(s)[n].fill_(torch.nan))
    yield "negative squares", changed(lambda s: moments(s)["exp_avg_sq"].fill_(-1))
    yield "steps before the first", changed(lambda s: moments(s)["step"].fill_(-1))
    yield "moments of one more", changed(lambda s: s["optimiser"]["state"].update({10_000: moments(s)}))
    yield "moments of one less", changed(lambda s: s["optimiser"]["state"].pop(0))
    yield "moments by words", changed(lambda s: s["optimiser"].update(state={"a": moments(s)}))
    yield "no groups", changed(lambda s: s["optimiser"].update(param_groups=[]))
    for lr in (-1, 1e30, float("nan"), float("inf"), "x", None, torch.tensor(1.0)):
        yield f"rate {lr!r}", changed(lambda s, lr=lr: group(s).update(lr=lr))
    state = io.BytesIO(whole)
    with zipfile.ZipFile(state) as parts:
        content = {part.filename: parts.read(part) for part in parts.infolist()}
    yield "deflated", _packed(content, zipfile.ZIP_DEFLATED)
    yield "deflated bomb", _packed(content | {"archive/data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED)
    (pickled,) = (name for name in content if name.endswith("/data.pkl"))
    yield "code that runs in it", _packed(content | {pickled: pickle.dumps(Hostile(), protocol=2)})
    yield "a GB asked for in it", _packed(content | {pickled: pickle.dumps(_Large(), protocol=2)})
    yield "a later protocol", _packed(content | {pickled: pickle.dumps(OrderedDict(step=3), protocol=4)})
    yield "of before the archive", _as_before(whole)


class _Large:
    """A pickle that asks for a GB of zeros, by a name that PyTorch allows."""

    def __reduce__(self):
        return bytearray, (10**9,)


def _packed(content: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as parts:
        for name, part in content.items():
            parts.writestr(name, part)
    return file.getvalue()


def _as_before(whole: bytes) -> bytes:
    file = io.BytesIO()
    state = torch.load(io.BytesIO(whole), weights_only=True)
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _odd_states(whole: bytes) -> Some:
    def changed(change: Callable[[dict], object]) -> bytes:
        state = torch.load(io.BytesIO(whole), weights_only=True)
        change(state["optimiser"]["state"][0])
        change(state["optimiser"]["param_groups"][0])
        file = io.BytesIO()
        torch.save(state, file)
        return file.getvalue()

    def narrow(moments: dict) -> None:
        if "exp_avg" in moments:  # all of it one number: what walks through memory would go beyond its end
            moments["exp_avg"] = torch.zeros(1).expand_as(moments["exp_avg"])

    yield "moments that are one number", changed(narrow)
    yield "another beta", changed(lambda part: part.update(betas=("a", None), foreach=3) if "lr" in part else None)
    yield "other settings", changed(lambda part: part.update(amsgrad=True, capturable=True) if "lr" in part else None)


# Studies.


def _line(arm: str) -> dict:
    made = studies.settings_of(STUDIES["mixture"], arm, 0, STEPS)
    return {**made, "diverged": False, **{field.name: 0.5 for field in fields(Coverage)}, "history": []}


def _make_study(folder: Path) -> None:
    (folder / "study").mkdir()
    text = "".join(json.dumps(_line(arm)) + "\n" for arm in ("ali", "gan"))
    (folder / "study" / "runs.jsonl").write_text(text)


def _make_store(folder: Path) -> None:
    _make_study(folder)
    _read_store(folder)


def _read_store(folder: Path) -> None:
    found = studies.run_study("mixture", folder / "study", 1, STEPS, store=f"sqlite:///{folder}/study.db")
    assert [line["arm"] for line in found] == ["ali", "gan"]


def _bad_lines(whole: bytes) -> Some:
    wrong = {
        "steps": ["20", None, 21, 1e30],
        "run": ["0", -1, 10**9, 0.0, None, True, []],
        "arm": ["gone", None, [], {}],
        "diverged": ["no", None, 2],
        "within_3std": ["x", None, [], float("nan"), float("inf")],
        "seed": [5, None],
    }
    for name, values in wrong.items():
        for value in values:
            yield f"{name}: {value!r}", whole + json.dumps({**_line("ali"), name: value}).encode() + b"\n"
    short, long = (
        (b"3", b"[]", b"null", b'"x"', b"", b"\xff"),
        (b"[" * 100_000, b'{"a":' * 50_000, b'"' + b"a" * 3_000_000),
    )
    for text in (*short, *long):
        yield f"a line {text[:20]!r}", text + b"\n" + whole


def _after(*statements: str) -> Change:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "study.db")) as books:
            for statement in statements:
                books.execute(statement)
            books.commit()

    return change


def _bad_stores(whole: bytes) -> Some:
    insert = "CREATE TRIGGER t AFTER UPDATE ON alikit_runs BEGIN DELETE FROM alikit_runs; END"
    yield "a trigger", _after(insert)
    yield "a view", _after("CREATE VIEW v AS SELECT * FROM alikit_runs")
    yield (
        "a view for a table",
        _after("ALTER TABLE alikit_runs RENAME TO t", "CREATE VIEW alikit_runs AS SELECT * FROM t"),
    )
    yield "a virtual table", _after("CREATE VIRTUAL TABLE v USING fts5(x)")
    hidden = "UPDATE sqlite_master SET type = 'table' WHERE type = 'trigger'"
    yield "a hidden trigger", _after(insert, "PRAGMA writable_schema = ON", hidden)
    texts = {"not JSON": "{", "null": "null", "a list": "[]", "empty": "{}", "nested": "[" * 100_000}
    for about, text in texts.items():
        yield f"line {about}", _after(f"UPDATE alikit_runs SET line = '{text}'")
    yield "line bytes", _after("UPDATE alikit_runs SET line = x'ff'")
    yield "another table", _after("DROP TABLE alikit_runs", "CREATE TABLE alikit_runs (a TEXT)")


def _odd_stores(whole: bytes) -> Some:
    keep = "UPDATE alikit_runs SET"
    yield "a key that leaves the folder", _after(f"{keep} run = '../../' || run")
    yield "a time that is a word", _after(f"{keep} alive = 'x', owner = 7")
    yield "a study of bytes", _after("INSERT INTO alikit_runs SELECT x'ff', run, line, owner, alive FROM alikit_runs")


# Benchmarks.


def _make_benchmarks(folder: Path) -> None:
    for name in ("batch.json", "memory.json", "step-svhn.json", "size.json"):
        shutil.copy(ROOT / "results" / "benchmarks" / name, folder / name)


def _read_benchmarks(folder: Path) -> None:
    benchmark_report.write_report(folder)
    page = (folder / "README.md").read_text()
    assert " nan" not in page and " inf" not in page


def _bad_benchmark(whole: bytes) -> Some:
    known = json.loads(whole)
    changes = {"a list": [], "null": None, "nothing": {}, "a number": 3}
    for name in ("ours", "ratio", "recipe", "batch", "share_of_matmul", "threads", "load"):
        for about, value in {"a word": "x", "a list": [1], "an object": {}}.items():
            changes[f"{name} {about}"] = {**known, name: value}
        changes[f"no {name}"] = {key: value for key, value in known.items() if key != name}
    for number in ("nan", "inf", "-inf"):
        changes[f"ours {number}"] = {**known, "ours": {**known["ours"], "median": float(number)}}
        changes[f"gflop_a_step {number}"] = {**known, "gflop_a_step": float(number)}
    changes["no rate"] = {**known, "ours": {**known["ours"], "median": 0}}
    changes["beyond numbers"] = {**known, "ours": {**known["ours"], "median": 1e308}, "batch": 10**10}
    return named(changes, lambda said: json.dumps(said).encode())


CACHE = "pets/.alikit-cache"
KINDS = {
    "JPEG picture": Kind(
        _pets(".jpg"), "pets/cat/0.jpg", _read_pets, _hostile_jpeg, _odd_jpeg, written=(CACHE,), forgiven=("places",)
    ),
    "PNG picture": Kind(
        _pets(".png"),
        "pets/cat/0.png",
        _read_pets,
        _hostile_png,
        _odd_png,
        "train cifar10-small --size 32 --steps 1 --batch 2 --data folder:{0}/pets --out {0}/out",
        written=(CACHE,),
        forgiven=("places",),
    ),
    **{
        f"{suffix[1:].upper()} picture": Kind(
            _pets(suffix),
            f"pets/cat/0{suffix}",
            _read_pets,
            written=(CACHE,),
            forgiven=("places",),
            warns="tempfile.tif: ",  # libtiff, in C, calls the file so
        )
        for suffix in (".gif", ".tif", ".webp", ".bmp")
    },
    "attributes.csv": Kind(
        _make_table,
        "faces/attributes.csv",
        lambda folder: load(f"table:{folder / 'faces'}"),
        _hostile_table,
        argv="train celeba-conditional-small --size 32 --steps 1 --batch 2 --data table:{0}/faces --out {0}/out",
        written=("faces/.alikit-cache",),
    ),
    "CIFAR-10 batch": Kind(
        _make_cifar, "cifar-10-batches-py/data_batch_1", lambda folder: cifar10(folder), written=(".alikit-cache",)
    ),
    "SVHN file": Kind(_make_svhn, "train_32x32.mat", lambda folder: svhn(folder), written=(".alikit-cache",)),
    "drawn CelebA table": Kind(
        lambda folder: write_celeba(folder, 20, size=32),
        "celeba/list_attr_celeba.txt",
        lambda folder: celeba(folder, size=8),
        _hostile_celeba,
        written=(".alikit-cache",),
        random=8,
    ),
    "drawn CelebA marker": Kind(
        lambda folder: write_celeba(folder, 20, size=32),
        f"celeba/{published.DRAWN}",
        lambda folder: celeba(folder, size=8),
        _hostile_marker,
        written=(".alikit-cache",),
        random=8,
    ),
    "Tiny ImageNet list": Kind(
        _make_tiny, "tiny-imagenet-200/wnids.txt", _read_tiny, _hostile_wnids, written=(".alikit-cache",)
    ),
    "archive": Kind(
        _make_archive,
        "tiny-imagenet-200.zip",
        lambda folder: tiny_imagenet(folder, size=8),
        _hostile_archive,
        written=("tiny-imagenet-200/",),
    ),
    "weights": Kind(
        _make_run, "run/weights.safetensors", _read_run, _strange_tensors, argv="sample {0}/run --out {0}/x.png"
    ),
    "recorded decoder": Kind(_make_record, "run/decoder.safetensors", _read_record, random=4),
    "recorded judge": Kind(_make_record, "run/judge.safetensors", _read_record, forgiven=("places",), random=4),
    "recorded codes": Kind(_make_record, "run/codes.safetensors", _read_record, _strange_codes, random=4),
    "recorded metrics": Kind(
        _make_results, "run/metrics.json", _read_report, _strange_metrics, argv="report {0}", written=("README.md",)
    ),
    "feature network": Kind(_make_features, "network.safetensors", _read_features, random=8),
    "cache": Kind(
        _make_cache,
        "cache.safetensors",
        _read_cache,
        _strange_cache,
        forgiven=("hostile", "foreign", "places"),
        written=("cache.", "divided-"),
        warns="no cache written",
    ),
    "settings.json": Kind(
        _make_run,
        "run/settings.json",
        _read_settings,
        _bad_settings,
        argv="sample {0}/run -n 1 --out {0}/x.png",
        random=32,
    ),
    "metrics.jsonl": Kind(
        _make_run, "run/metrics.jsonl", _read_log, _bad_log, argv="resume {0}/run", forgiven=("foreign", "places")
    ),
    "checkpoint.pt": Kind(_make_run, "run/checkpoint.pt", _read_checkpoint, _bad_states, _odd_states, "resume {0}/run"),
    "study store": Kind(
        _make_store,
        "study.db",
        _read_store,
        _bad_stores,
        _odd_stores,
        argv=f"study mixture --runs 1 --steps {STEPS} --out {{0}}/study --store sqlite:///{{0}}/study.db",
        written=("study.db", "study/runs.jsonl"),
        random=8,
    ),
    "runs.jsonl": Kind(
        _make_study,
        "study/runs.jsonl",
        lambda folder: studies.read_lines(folder / "study" / "runs.jsonl", STUDIES["mixture"], STEPS),
        _bad_lines,
        forgiven=("places",),
    ),
    "benchmark": Kind(
        _make_benchmarks,
        "step-svhn.json",
        _read_benchmarks,
        _bad_benchmark,
        argv="bench report --out {0}",
        written=("batch.png",),
    ),
}
