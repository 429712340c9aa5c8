"""Bad files by the hundred, each read in a process that is watched: `outcomes(kind, folder)`.

A `Kind` is one kind of file: how a good one is made, what reads it, and which ones are hostile. `cases` damages it in
ways that fit every kind besides. A process reads one case after the other and writes down what came of each. There

- a hang, or a crash of the interpreter, costs the case its process, and another one goes on after it;
- memory is bounded: `ROOM` more than was mapped before, and `ASKED` may be used;
- what would run code, reach for the network, unpickle, or write outside the case's folder is written down;
- standard error is a file, so that not even a C library can say something unheard.

A case is well when it is read, or is refused by an AlikitError of one printable line and nothing else is said. One that
`must` be refused is not to be read.
"""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import socket
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from started import SOAK, Started

TIMES = 20 if SOAK else 1  # as many random cases
HANG = 120  # seconds of one case: many times what the slowest takes on a busy machine
ROOM = 2**30
ASKED = 2**28  # bytes of memory that reading one file may take
HOLE = 2**34  # bytes that a file seems to have, and the disk does not
EVENTS = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "subprocess.Popen"),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "ctypes.dlopen", "webbrowser.open"),
    *("pickle.find_class", "sqlite3.load_extension", "sqlite3.enable_load_extension"),
)
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")

Change = Callable[[Path], object]  # what is done to the folder of a case
Some = Iterable[tuple[str, bytes | Change]]  # cases by name: the content of the file, or what is done to the folder


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    make     fills a folder with what the reader wants, whole and good
    file     the file in it that is damaged
    read     what reads the folder; it may look at what it has got, and raise AssertionError
    hostile  made by hand of the good file, none of which may be read
    odd      likewise, which may be read
    argv     the command line that reads it; {} is the folder
    forgiven which of "hostile", "foreign" (another format's) and "places" (no regular file) may be read after all, as
             they are left out or made again
    random   how many cases are damaged at random
    written  how the files begin that reading may leave; warns, how a line does that it may say
    """

    make: Change
    file: str
    read: Callable[[Path], object]
    hostile: Callable[[bytes], Some] = lambda whole: ()
    odd: Callable[[bytes], Some] = lambda whole: ()
    argv: str | None = None
    forgiven: tuple[str, ...] = ()
    random: int = 12
    written: tuple[str, ...] = ()
    warns: str = "\n"


class Hostile:
    """A pickle that leaves a trace where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("trace",)


def put(file: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).unlink()  # it may be the template's own, see `_same`
        (folder / file).write_bytes(content)

    return change


def cases(name: str, kind: Kind, whole: bytes) -> Iterator[tuple[str, Change, bool, bool]]:
    """All cases of a kind, the same every time: name, what is done, whether it must be refused, and whether it is read
    by the command line. `whole` is the good file."""
    chance, places = random.Random(zlib.crc32(name.encode()) + SOAK), PLACES.items()
    some = [("read", [("as it is", lambda folder: None)]), ("read", _damaged(whole, kind.random * TIMES, chance))]
    some += [("foreign", _foreign(kind.file)), ("hostile", kind.hostile(whole)), ("read", kind.odd(whole))]
    some += [("places", ((about, _in_its_place(kind.file, make)) for about, make in places))]
    number = 0
    for group, each in some:
        for about, change in each:
            change, must = change if callable(change) else put(kind.file, change), group not in ("read", *kind.forgiven)
            yield about, change, must, False
            if kind.argv and (number % 16 == 0 or about == "pickle that runs code"):
                yield f"{about}, by command", change, must, True
            number += 1


def _damaged(whole: bytes, number: int, chance: random.Random) -> Some:
    for length in (
        0,
        1,
        8,
        len(whole) // 2,
        len(whole) - 1,
        *(chance.randrange(len(whole)) for _ in range(number // 4)),
    ):
        yield f"cut to {length}", whole[:length]
    for turn in range(number):
        # Half of them where a format says what is to come: at its beginning or its end.
        edge = min(len(whole), 400)
        place = (chance.randrange(edge), -1 - chance.randrange(edge), *([chance.randrange(len(whole))] * 2))[turn % 4]
        place, bit = place % len(whole), chance.randrange(8)
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(flipped)
    for _ in range(number // 4):
        begin, length = chance.randrange(len(whole)), chance.randrange(1, 64)
        yield f"{length} random bytes at {begin}", whole[:begin] + chance.randbytes(length) + whole[begin + length :]
    yield "rubbish after it", whole + chance.randbytes(1000)
    yield "twice", whole + whole


def _foreign(file: str) -> Some:
    yield "zeros", bytes(1000)
    yield "text", b"This is no such file.\n" * 20
    yield "pickle that runs code", pickle.dumps(Hostile(), protocol=2)
    yield "program", b"#!/bin/sh\nmkdir trace\n"
    if not file.endswith((".png", ".jpg")):
        yield "picture", b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(17)
    if not file.endswith((".json", ".jsonl")):
        yield "JSON", b'{"step": 1}'
    yield "JSON nested deeply", b"[" * 100_000
    yield "archive", b"PK\3\4" + bytes(100) + b"PK\5\6" + bytes(18)


def _socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(file.parent):  # a socket's name is short
        listening.bind(file.name)


PLACES: dict[str, Change] = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "folder": Path.mkdir,
    "hole": lambda file: (file.touch(), os.truncate(file, HOLE)),
    "link to itself": lambda file: file.symlink_to(file.name),
    "device": lambda file: file.symlink_to(os.devnull),
}


def _in_its_place(file: str, make: Change) -> Change:
    return lambda folder: ((folder / file).unlink(), make(folder / file))


def outcomes(name: str, folder: Path) -> list[tuple[str, str, str]]:
    """What came of every case: its name, "refused", "read" or "failed", and why."""
    told = folder / "told"
    told.touch()
    while not (said := [json.loads(line) for line in told.read_text().splitlines()]) or said[-1] != "through":
        begun = len(said) // 2
        process, size, since = Started(folder, read_cases, name, folder / str(begun), begun, told), -1, 0.0
        while process.is_alive() and (told.stat().st_size != size or time.monotonic() - since < HANG):
            if (now := told.stat().st_size) != size:
                size, since = now, time.monotonic()
            time.sleep(0.02)
        process.kill()
        status = process.wait()
        assert status != 1, process.err  # the watch itself, or what makes the cases
        if status:
            with open(told, "a") as more:
                more.write(json.dumps(["failed", f"it hung, or crashed the interpreter: status {status}"]) + "\n")
    return [(case, *found) for case, found in zip(said[:-1:2], said[1::2], strict=True)]


# What follows runs in the watched process.


class Watch:
    """Writes down what is done that reading a file is not."""

    def __init__(self, folder: Path):
        self.seen: list[str] = []
        self.folder, self.on = str(folder), False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in EVENTS and not str(arguments[0]).startswith("libnvidia"):  # PyTorch, for a GPU
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in ("open", *CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
            mode, flags = (arguments[1] or "", arguments[2] or 0) if event == "open" else ("", 0)
            writes = set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if (writes or (event != "open" and arguments[-1] in (-1, None))) and not path.startswith(self.folder):
                self.seen += [f"{event} {path}"] if path != os.devnull else []


def contents(folder: Path) -> dict[str, tuple | None]:
    """Every file by name, as it is known from others; of folders those that are empty."""
    found = {}
    for place, below, files in os.walk(folder):
        for name in [*files, *(name for name in below if not os.listdir(os.path.join(place, name)))]:
            about = os.lstat(path := os.path.join(place, name))
            found[os.path.relpath(path, folder)] = about.st_ino, about.st_size, about.st_mtime_ns
    return found


def _same(file: str, copy: str) -> None:
    """A copy, or where that would take a while another name of the same file; but SQLite writes to its files."""
    if os.stat(file).st_size > 100_000 and not file.endswith(".db"):
        os.link(file, copy)
    else:
        shutil.copy2(file, copy)


def _memory(what: str) -> int:
    """Bytes of this process, as Linux counts them: VmSize, VmRSS, or VmHWM, the largest VmRSS since it was asked to
    count anew."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def _by_command(argv: str, said: Path) -> None:
    """The command line in this process; its one line becomes the AlikitError that it was."""
    from alikit.cli import main
    from alikit.errors import AlikitError

    sys.argv = ["alikit", *argv.split()]
    with contextlib.redirect_stdout(io.StringIO()):
        status = main()
    text = said.read_text(errors="replace")
    os.truncate(said, 0)
    assert status in (0, 2), f"exit status {status}: {text}"
    if status == 0:
        assert "Error" not in text and "Warning" not in text, text  # but a bar of progress
        return
    line = text.removeprefix("alikit: ").removesuffix("\n")
    assert f"alikit: {line}\n" == text and str(AlikitError(line)) == line, f"not one printable line: {text!r}"
    raise AlikitError(line)


def _outcome(read: Callable[[], object], must: bool) -> tuple[str, str]:
    """("refused" or "read" or "failed", why)."""
    from alikit.errors import AlikitError

    try:
        read()
    except AlikitError as error:
        line, behind = str(error), error
        while behind := behind.__cause__ or behind.__context__:
            if isinstance(behind, MemoryError) or any(w in str(behind).lower() for w in ("allocate", "bad_alloc")):
                return "failed", f"asked for too much memory: {behind}"
        return ("refused", line) if line and line.isprintable() else ("failed", f"not one printable line: {line!r}")
    except BaseException as error:
        return "failed", "".join(traceback.format_exception(error))[-1500:]
    return ("failed", "it was read, and is hostile") if must else ("read", "")


def read_cases(name: str, folder: Path, first: int, out: Path) -> None:
    """Reads all cases from number `first` on, and says before each what it is, and after it what came of it."""
    import torch
    from bad_kinds import KINDS

    kind, template, place, said = (
        KINDS[name],
        folder / "template",
        folder / "work" / "case",
        Path("/dev/fd/2").resolve(),
    )
    template.mkdir(parents=True)
    place.parent.mkdir()
    os.environ["HOME"] = str(folder)
    kind.make(template)
    torch.set_num_threads(1)
    warnings.simplefilter("always")
    os.chdir(place.parent)
    watch, whole = Watch(place.parent), (template / kind.file).read_bytes()
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + ROOM,) * 2)
    with open(out, "a", buffering=1) as told:
        for about, change, must, by_command in islice(cases(name, kind, whole), first, None):
            told.write(json.dumps(about) + "\n")
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(template, place, copy_function=_same)
            change(place)
            before = contents(place)
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
            begun = _memory("VmRSS")
            watch.seen, watch.on = [], True
            read = (lambda: _by_command(kind.argv.format(place), said)) if by_command else lambda: kind.read(place)
            outcome, why = _outcome(read, must)
            watch.on = False
            after, took, text = contents(place), _memory("VmHWM") - begun, said.read_text(errors="replace")
            changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
            changed = sorted(file for file in changed if not file.startswith(kind.written))
            for wrong, is_wrong in {
                f"it did more than read: {watch.seen}": watch.seen and not about.startswith("as it is"),
                f"refused, and {changed} changed": outcome == "refused" and changed,
                f"it said: {text}": text and not text.startswith(("\r", kind.warns)),
                "its code ran": os.path.exists("trace") or (place / "trace").exists(),
                f"it took {took / 2**20:.0f} MiB": took > ASKED,
            }.items():
                if is_wrong and outcome != "failed":
                    outcome, why = "failed", wrong
            os.truncate(said, 0)
            told.write(json.dumps([outcome, why]) + "\n")
        told.write('"through"\n')
