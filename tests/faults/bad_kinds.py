"""Every kind of file that is read, `KINDS`: how a good one is made, what reads it, and which ones are hostile.

Files with a published checksum are in tests/data."""

import io
import json
import os
import pickle
import shutil
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from started import SOAK

import alikit.cli  # noqa: F401  # what the command line imports, once
from alikit import data, runs, storage, studies
from alikit.runs import records, report, running
from alikit.studies import STUDIES

RESULTS = Path(__file__).resolve().parents[2] / "results"
GONE = object()
digits = cache(data.digits)


Content = bytes | Callable[[Path], object]  # of a bad file, or what makes it
Some = Iterable[tuple[str, Content]]  # bad files by name


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    make     fills a folder with what the reader needs, whole and good
    file     the file in it that is damaged
    read     what reads the folder; it may check what it got, and raise AssertionError
    hostile  made by hand of the good file, none of which may be read; odd, likewise, which may
    forgiven which of "foreign" (another format's) and "places" (no regular file) may be read after all
    written  how the files begin that reading may leave; warns, how a line begins that it may print
    """

    make: Callable[[Path], object]
    file: str
    read: Callable[[Path], object]
    hostile: Callable[[bytes], Some] = lambda whole: ()
    odd: Callable[[bytes], Some] = lambda whole: ()
    forgiven: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    warns: str = "\n"


class Hostile:
    """A pickle that leaves a trace where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("trace",)


def changed_values(*values: object) -> Callable[[bytes], Some]:
    """Of an object in JSON, each of its values in turn is missing, or one of these."""

    def some(whole: bytes) -> Some:
        good, all = json.loads(whole), (GONE, *values)
        for number, name in enumerate(good):
            for value in all if SOAK else [all[number % len(all)]]:
                changed = {key: old for key, old in good.items() if key != name}
                changed |= {} if value is GONE else {name: value}
                yield f"{name}: {'gone' if value is GONE else repr(value):.20}", json.dumps(changed).encode()

    return some


def not_an_object(whole: bytes) -> Some:
    """What JSON has besides objects, and what is none."""
    for text in (b"[]", b"null", b"3", b"{}", b'{"\xff": 1}', b'{"format":' * 50_000, whole + b" " * 2**20):
        yield f"{text[:9]!r}", text
    for text in (b"NaN", b"Infinity", b"1e999", b"9" * 5000):
        yield f"{text!r:.20}", whole.rstrip().removesuffix(b"}") + b', "lr": ' + text + b"}"


def bad_lines(*lines: bytes) -> Callable[[bytes], Some]:
    """Lines of a log, before the good ones."""
    more = (b"3", b"[]", b"null", b"", b"\xff", b"[" * 100_000, b'"' + b"a" * 3_000_000)
    return lambda whole: ((f"a line {line!r:.40}", line + b"\n" + whole) for line in (*lines, *more))


# Pictures.


def _pets(suffix: str, folder: Path) -> None:
    for number, pet in enumerate(("cat", "cat", "dog", "dog")):
        file = folder / "pets" / pet / f"{number}{suffix if number == 0 else '.png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)).save(file)


def _read_pets(folder: Path) -> None:
    parts = data.load(f"folder:{folder / 'pets'}", 8)
    assert {part.shape for part in parts} == {(3, 8, 8)} and sum(map(len, parts)) >= 3


def _hostile_png(whole: bytes) -> Some:
    """A few KB, and a GB decoded; and sides beyond what a decoder counts."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    def rows(size: int) -> bytes:
        codes, block = zlib.compressobj(1), bytes(2**20)
        return b"".join(codes.compress(block) for _ in range(-(-size // len(block)))) + codes.flush()

    for side, pixels in ((13_000, rows(13_000 * 1626)), (20_000, rows(20_000 * 2501)), (2**31 - 1, b"")):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        yield f"{side} pixels wide", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _make_table(folder: Path) -> None:
    rows = [f"{number}.png,{'valid' if number > 3 else 'train'},{number % 2},1\n" for number in range(6)]
    (folder / "faces" / "images").mkdir(parents=True)
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "faces" / "images" / f"{number}.png")
    (folder / "faces" / "attributes.csv").write_text("".join(["image,split,Young,Bald\n", *rows]))


def _hostile_table(whole: bytes) -> Some:
    for name in (b"../../0.png/", b"/etc/passwd", b"\0.png", b"\x1b]0;title\x07\x1b[2J.png", b'"0.png', b"0" * 10**6):
        yield f"a picture {name!r:.20}", whole.replace(b"0.png", name)
    yield "a line of 20 MB", whole + b"," * 20_000_000
    yield "100,000 columns", b"image" + b"".join(b",a%d" % number for number in range(100_000))
    yield "a column over two lines", whole.replace(b"Young", b'"Young\n\x1b[2J"')
    yield "a million blank lines", b"image,a\n" + b"\n" * 1_000_000 + b"1,2,3"
    yield "UTF-16", whole.decode().encode("utf-16")


def _odd_table(whole: bytes) -> Some:
    """Places on the machine where the table was made: only the name of the file counts, and no other place is read."""
    for name in (b"../images/0.png", b"/0.png", b"/elsewhere/faces/0.png"):
        yield f"a picture {name!r:.20}", whole.replace(b"0.png", name)


def _make_tiny(folder: Path) -> None:
    place = folder / "tiny-imagenet-200"
    for file in ("train/n01/images/n01_0", "train/n02/images/n02_0", "val/images/val_0", "../secret/0"):
        (place / f"{file}.JPEG").parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(place / f"{file}.JPEG")
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t1\n")
    (place / "wnids.txt").write_text("n01\nn02")
    (place / "words.txt").write_text("n01\tentity\nn02\tfish\n")


def _read_tiny(folder: Path) -> None:
    train, held_out = (data.tiny_imagenet(folder, split, size=8) for split in ("train", "val"))
    assert len(train) == 2 and len(held_out) == 1


def _hostile_annotations(whole: bytes) -> Some:
    for line in ("../../secret/0.JPEG", "../images/val_0.JPEG", "", "\0", "\x1b[2J"):
        yield f"picture {line!r}", f"{line}\tn01\n".encode()
    for wnid in ("", "\x1b[2J", "../../../secret", "/", "..", "C:", "n03"):
        yield f"class {wnid!r}", f"val_0.JPEG\t{wnid}\n".encode()
    yield "large", whole * 5_000_000


# The cache: what is damaged there is made anew from the pictures, so nothing is refused.


def _make_cache(folder: Path) -> None:
    _pets(".png", folder)
    place = folder.parent / "work" / "case"  # not the template, for the place is in the cache's name
    shutil.copytree(folder, place)
    os.environ["ALIKIT_CACHE"] = str(place)
    data.load(f"folder:{place / 'pets'}", 8)
    (file,) = place.glob("*.cache")
    shutil.copy(file, folder / "pets.cache")
    (folder / "name").write_text(file.name)


def _read_cache(folder: Path) -> None:
    (folder / "pets.cache").rename(folder / (folder / "name").read_text())
    parts = data.load(f"folder:{folder / 'pets'}", 8)
    assert parts[0].classes == ("cat", "dog") and sum(map(len, parts)) == 4
    for part in parts:
        assert part.floats().shape[1:] == (3, 8, 8) and set(part.labels.tolist()) <= {0, 1}


# Networks.


def _strange_tensors(whole: bytes) -> Some:
    """Files that are in good form, of tensors that are not the network's; and headers that promise too much."""
    all = load(whole)
    one = next(name for name, tensor in sorted(all.items()) if tensor.is_floating_point() and tensor.ndim == 1)
    for about, tensor in {"NaN": all[one] * torch.nan, "complex": all[one].cfloat(), "shape": all[one][None]}.items():
        yield about, save({**all, one: tensor})
    wide = {one: torch.ones(20_000, 1), one + storage.SCALE: torch.ones(1, 20_000)}
    yield "a scale that widens it", save({**all, **wide})
    yield "one missing", save({name: tensor for name, tensor in all.items() if name != one})
    yield "header longer than the file", struct.pack("<Q", 2**60) + whole[8:]
    large = {one: {"dtype": "F32", "shape": [2**62, 2], "data_offsets": [0, 2**63]}}
    for header in (b"[" * 100_000, b'{"x":{' + b" " * 90_000_000, b"[]", json.dumps(large).encode()):
        yield f"header {header[:20]!r}", struct.pack("<Q", len(header)) + header + bytes(16)


def _make_run(folder: Path) -> None:
    """At its end, so that no training is needed to refuse to resume it."""
    running.train("digits", folder / "run", steps=2, changes={"ema": 0.9}, command="alikit train digits")


def _read_run(folder: Path) -> None:
    known = runs.read_settings(folder / "run")
    x = runs.load_model(folder / "run").sample(2)
    assert x.shape == (2, 1, 8, 8) and x.isfinite().all()
    assert runs.trainer(known, digits()).config.batch_size == known["batch_size"]


def _read_log(folder: Path) -> None:
    max((line.get("seconds", 0) for line in runs.metrics(folder / "run")), default=0)
    runs.rewind_log(folder / "run", 1)


_bad_log = bad_lines(
    *(b'{"seconds": 1}', b'{"step": "3"}', b'{"step": -1}', b'{"step": true}', b'{"step": ' + b"9" * 5000 + b"}"),
    *(b'{"step": 3, "a": [1]}', b'{"step": 3, "seconds": Infinity}', b'{"step": 3, "seconds": -5}'),
)


def _read_checkpoint(folder: Path) -> None:
    trainer = runs.trainer(runs.read_settings(folder / "run"), digits())
    runs.go_on(folder / "run", trainer, runs.checkpoint(folder / "run"))
    trainer.run(trainer.step + 1)


class _Large:
    def __reduce__(self):
        return bytearray, (10**9,)  # a GB of zeros, by a name that PyTorch allows


def _bad_states(whole: bytes) -> Some:
    def changed(change: Callable[[dict], object], **how) -> bytes:
        state, file = torch.load(io.BytesIO(whole), weights_only=True), io.BytesIO()
        change(state)
        torch.save(state, file, **how)
        return file.getvalue()

    def packed(how: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(file, "w", how, compresslevel=1) as parts:
            for name in before.namelist():
                parts.writestr(name, more.get(Path(name).stem, before.read(name)))
        return file.getvalue()

    for name in ("step", "model", "optimiser", "random", "average"):
        yield f"no {name}", changed(lambda state, name=name: state.pop(name))
    for name in ("model", "average"):
        yield f"NaN in {name}", changed(lambda state, name=name: [*state[name].values()][-1].fill_(torch.nan))
    yield "random state of zeros", changed(lambda state: state["random"].zero_())
    yield "of before the archive", changed(lambda state: None, _use_new_zipfile_serialization=False)
    yield "deflated bomb", packed(zipfile.ZIP_DEFLATED, **{"0": bytes(2**28)})
    yield "code that runs in it", packed(data=pickle.dumps(Hostile(), protocol=2))
    yield "a GB of zeros in it", packed(data=pickle.dumps(_Large(), protocol=2))


# Records: one of the repository's; and the page that lists them.


def _make_record(folder: Path) -> None:
    shutil.copytree(RESULTS / "conditional-faces", folder / "run", ignore=shutil.ignore_patterns("*.png"))
    marks = [f"<!-- {part}{name} -->" for name in report.PARTS.values() for part in ("", "end of ")]
    (folder / "README.md").write_text("\n".join(marks))


def _read_record(folder: Path) -> None:
    record = records.recorded(folder / "run")
    assert all(tensor.isfinite().all() for tensor in record.codes.values()) and isinstance(record.metrics, dict)


def _strange_codes(whole: bytes) -> Some:
    mean = load(whole)["q_mean"]
    for about, tensor in {"NaN": mean * torch.nan, "complex": mean.cfloat(), "another length": torch.zeros(3)}.items():
        yield about, save({**load(whole), "q_mean": tensor})


def _read_report(folder: Path) -> None:
    assert report.write_report(folder) == 1


# Studies: two finished runs of the one in the repository.

STUDY = STUDIES["mixture"]


def _make_study(folder: Path) -> None:
    known = [json.loads(text) for text in (RESULTS / "mixture" / "runs.jsonl").read_text().splitlines()]
    (folder / "study").mkdir()
    text = "".join(json.dumps({**line, "history": []}) + "\n" for line in known if line["run"] == 0)
    (folder / "study" / "runs.jsonl").write_text(text)


def _read_lines(folder: Path) -> None:
    found = studies.read_lines(folder / "study" / "runs.jsonl", STUDY, STUDY.steps)
    assert all(line["arm"] in STUDY.arms and line["steps"] == STUDY.steps for line in found.values())


def _bad_runs(whole: bytes) -> Some:
    good = json.loads(whole.splitlines()[0])
    for name in ("steps", "run", "arm", "diverged", "seed"):
        for value in ("gone", None, [], -1, 1e30):
            yield f"{name}: {value!r}", whole + json.dumps({**good, name: value}).encode() + b"\n"
    yield from bad_lines()(whole)


def _make_store(folder: Path) -> None:
    _make_study(folder)
    _read_study(folder)


def _read_study(folder: Path) -> None:
    store = f"sqlite:///{folder / 'study.db'}"
    found = studies.run_study("mixture", folder / "study", 1, STUDY.steps, store=store)
    assert [line["arm"] for line in found] == [*STUDY.arms]


def _bad_stores(whole: bytes) -> Some:
    def with_line(file: Path, value: str) -> None:
        file.write_bytes(whole)
        with closing(sqlite3.connect(file)) as books, books:
            books.execute(f"UPDATE alikit_runs SET line = {value}")

    for value in ("'{'", "'null'", "'[]'", "'{}'", "x'ff'", f"'{'[' * 100_000}'"):
        yield f"line {value:.10}", partial(with_line, value=value)


def _make_benchmarks(folder: Path) -> None:
    shutil.copy(RESULTS / "benchmarks" / "step-svhn.json", folder)


def _read_benchmarks(folder: Path) -> None:
    from benchmarks.report import write_report  # not where the others are imported, for it comes with a checkout only

    write_report(folder)
    page = (folder / "README.md").read_text()
    assert " nan" not in page and " inf" not in page


LEFT_OUT = {"forgiven": ("places",)}
KINDS = {
    f"{suffix[1:].upper()} picture": Kind(
        *(partial(_pets, suffix), f"pets/cat/0{suffix}", _read_pets),
        **({"hostile": _hostile_png} if suffix == ".png" else {}),
        **LEFT_OUT,
        written=("pets/.alikit-cache",),
        warns="tempfile.tif: " if suffix == ".tif" else "\n",  # libtiff, in C, calls the file so
    )
    for suffix in (".jpg", ".png", ".tif", ".webp", ".jp2")
}
OF_RUN, OF_RECORD = partial(Kind, _make_run), partial(Kind, _make_record)
WORDS, PAGE = changed_values("x", {"a": 1}), {"written": ("README.md",)}
OF_SETTINGS = changed_values(None, -1, 10**30, "x")
KINDS |= {
    "attributes.csv": Kind(
        *(_make_table, "faces/attributes.csv", lambda folder: data.load(f"table:{folder / 'faces'}"), _hostile_table),
        odd=_odd_table,
        written=("faces/.alikit-cache",),
    ),
    "Tiny ImageNet list": Kind(
        *(_make_tiny, "tiny-imagenet-200/val/val_annotations.txt", _read_tiny, _hostile_annotations),
        written=("tiny-imagenet-200/train/.alikit-cache", "tiny-imagenet-200/val/.alikit-cache"),
    ),
    "cache": Kind(
        *(_make_cache, "pets.cache", _read_cache),
        forgiven=("foreign", "places"),
        written=("pets.", "folder-", ".folder-"),
        warns="no cache written",
    ),
    "weights": OF_RUN("run/weights.safetensors", _read_run, _strange_tensors),
    "settings.json": OF_RUN("run/settings.json", _read_run, not_an_object, OF_SETTINGS),
    "metrics.jsonl": OF_RUN("run/metrics.jsonl", _read_log, _bad_log, forgiven=("foreign", "places")),
    "checkpoint.pt": OF_RUN("run/checkpoint.pt", _read_checkpoint, _bad_states),
    "recorded decoder": OF_RECORD("run/decoder.safetensors", _read_record, _strange_tensors),
    "recorded codes": OF_RECORD("run/codes.safetensors", _read_record, _strange_codes),
    "recorded metrics": OF_RECORD("run/metrics.json", _read_report, not_an_object, WORDS, **PAGE),
    "study store": Kind(_make_store, "study.db", _read_study, _bad_stores, written=("study.db",)),
    "runs.jsonl": Kind(_make_study, "study/runs.jsonl", _read_lines, _bad_runs, **LEFT_OUT),
    "benchmark": Kind(_make_benchmarks, "step-svhn.json", _read_benchmarks, not_an_object, WORDS, **PAGE),
}
