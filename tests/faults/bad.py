"""Bad files by the hundred, each read in a process that is watched.

    for outcome in Nursery(folder).outcomes("settings"): ...

A `Kind` is one kind of file: how a good one is made, what reads it, and which ones are hostile. `cases` damages it in
ways that fit every kind besides. The nursery is a process that has imported everything once; for each kind it forks a
child, which reads one case after the other and says of each what came of it. There

- a hang, or a crash of the interpreter, costs the case its child: it is named, and another child goes on after it;
- memory is bounded: `ROOM` more than was mapped before, and `ASKED` may be used (an error about too little memory is
  looked for behind the error that it became);
- what would run code, reach for the network, unpickle, or write outside the case's folder is written down;
- file descriptor 2 is a file, so that not even a C library can say something unheard.

A case is well when it is read, or is refused by an AlikitError of one printable line and nothing else is said. One that
`must` be refused is not to be read.
"""

import contextlib
import json
import os
import pickle
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

SOAK = int(os.environ.get("ALIKIT_SOAK") or 0)
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


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    make     fills a folder with what the reader wants, whole and good
    file     the file in it that is damaged
    read     what reads the folder; it may look at what it has got, and raise AssertionError
    hostile  made by hand: (name, bytes of the file or what is done to the folder), none of which may be read
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
    hostile: Callable[[bytes], Iterator[tuple[str, bytes | Change]]] = lambda whole: iter(())
    odd: Callable[[bytes], Iterator[tuple[str, bytes | Change]]] = lambda whole: iter(())
    argv: str | None = None
    forgiven: tuple[str, ...] = ()
    random: int = 16
    written: tuple[str, ...] = ()
    warns: str = "\n"


@dataclass(frozen=True)
class Case:
    name: str
    change: Change
    must: bool = False
    command: bool = False


class Hostile:
    """A pickle that leaves a trace where it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("trace",)


def put(file: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / file).unlink()  # it may be the template's own, see `_same`
        (folder / file).write_bytes(content)

    return change


def cases(name: str, kind: Kind, whole: bytes) -> Iterator[Case]:
    """All cases of a kind, the same every time, some by the command line too; `whole` is the good file."""
    for number, case in enumerate(_cases(name, kind, whole)):
        yield case
        if kind.argv and (number % 16 == 0 or case.name == "pickle that runs code"):
            yield replace(case, name=f"{case.name}, by command", command=True)


def _cases(name: str, kind: Kind, whole: bytes) -> Iterator[Case]:
    chance, must = random.Random(zlib.crc32(name.encode()) + SOAK), {"hostile", "foreign", "places"} - {*kind.forgiven}
    yield Case("as it is", lambda folder: None)
    for about, content in _damaged(whole, kind.random * TIMES, chance):
        yield Case(about, put(kind.file, content))
    for about, content in _foreign(kind.file):
        yield Case(about, put(kind.file, content), "foreign" in must)
    for about, make in PLACES.items():
        yield Case(about, _in_its_place(kind.file, make), "places" in must)
    for some, strict in ((kind.hostile, "hostile" in must), (kind.odd, False)):
        for about, change in some(whole):
            yield Case(about, change if callable(change) else put(kind.file, change), strict)


def _damaged(whole: bytes, number: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    for length in (0, 1, 8, len(whole) // 2, len(whole) - 1):
        yield f"cut to {length}", whole[:length]
    for _ in range(number // 4):
        yield f"cut to {(length := chance.randrange(len(whole)))}", whole[:length]
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


def _foreign(file: str) -> Iterator[tuple[str, bytes]]:
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
    with socket.socket(socket.AF_UNIX) as listening:
        before = os.getcwd()
        os.chdir(file.parent)  # a socket's name is short
        listening.bind(file.name)
        os.chdir(before)


def _hole(file: Path) -> None:
    file.touch()
    os.truncate(file, HOLE)


PLACES: dict[str, Change] = {"pipe": os.mkfifo, "socket": _socket, "folder": Path.mkdir, "hole": _hole}
PLACES |= {
    "link to itself": lambda file: file.symlink_to(file.name),
    "device": lambda file: file.symlink_to(os.devnull),
}


def _in_its_place(file: str, make: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return change


# What follows runs in the watched process.


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
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            mode, flags = arguments[1] or "", arguments[2] or 0
            if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._outside(event, arguments[0])
        elif event in CHANGES and isinstance(arguments[0], str | bytes | os.PathLike) and arguments[-1] in (-1, None):
            self._outside(event, arguments[0])

    def _outside(self, event: str, path: str | bytes | os.PathLike) -> None:
        path = os.path.abspath(os.fsdecode(path))
        if path != os.devnull and not path.startswith(self.folder):
            self.seen.append(f"{event} {path}")


def _by_command(argv: list[str]) -> None:
    """The command line in this process; its one line becomes the AlikitError that it was."""
    import alikit.__main__
    from alikit.errors import AlikitError

    said = Path("/dev/fd/2").resolve()
    before, sys.argv = said.stat().st_size, ["alikit", *argv]
    try:
        with contextlib.redirect_stdout(None):
            alikit.__main__.main()
    except SystemExit as over:
        with open(said, "rb") as file:
            file.seek(before)
            text = file.read().decode(errors="replace")
        os.truncate(said, before)
        assert over.code in (0, 2), f"exit status {over.code}: {text}"
        if over.code == 0:
            assert "Error" not in text and "Warning" not in text, text  # but a bar of progress
            return
        assert text.startswith("alikit: ") and text.endswith("\n"), text
        line = text.removeprefix("alikit: ").removesuffix("\n")
        error = AlikitError(line)
        assert str(error) == line, f"not one printable line: {text!r}"
        raise error from None


def _outcome(kind: Kind, case: Case, folder: Path) -> tuple[str, str]:
    """("refused" or "read" or "failed", why)."""
    from alikit.errors import AlikitError

    try:
        _by_command(kind.argv.format(folder).split()) if case.command else kind.read(folder)
    except AlikitError as error:
        line, behind = str(error), error
        if not line.isprintable() or not line:
            return "failed", f"not one printable line: {line!r}"
        while behind := behind.__cause__ or behind.__context__:
            if isinstance(behind, MemoryError) or any(w in str(behind).lower() for w in ("allocate", "bad_alloc")):
                return "failed", f"asked for too much memory: {behind}"
        return "refused", line
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))[-1500:]}"
    return ("failed", "it was read, and is hostile") if case.must else ("read", "")


def raise_children(name: str, kind: Kind, template: Path, folder: Path, out: Path, first: int) -> None:
    """Reads all cases from number `first` on; a line of JSON before and after each."""
    import resource

    said = out.with_suffix(".stderr")
    number = os.open(said, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(number, 2)
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    watch, whole = Watch(folder), (template / kind.file).read_bytes()
    most = _memory("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with open(out, "a", buffering=1) as told:
        for index, case in islice(enumerate(cases(name, kind, whole)), first, None):
            told.write(json.dumps({"begin": index, "case": case.name}) + "\n")
            place = folder / "case"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(template, place, copy_function=_same)
            case.change(place)
            before = contents(place)
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
            begun = _memory("VmRSS")
            watch.seen, watch.on = [], True
            outcome, why = _outcome(kind, case, place)
            watch.on = False
            if outcome != "failed":
                after, took = contents(place), _memory("VmHWM") - begun
                changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
                changed = {file for file in changed if not file.startswith(kind.written)}
                seen = [] if case.name.startswith("as it is") else watch.seen
                if seen:
                    outcome, why = "failed", f"it did more than read: {seen}"
                elif outcome == "refused" and changed:
                    outcome, why = "failed", f"refused, and {sorted(changed)} changed"
                elif (text := said.read_text(errors="replace")) and not text.startswith(("\r", kind.warns)):
                    outcome, why = "failed", f"it said: {text}"
                elif os.path.exists("trace") or (place / "trace").exists():
                    outcome, why = "failed", "its code ran"
                elif took > ASKED:
                    outcome, why = "failed", f"it took {took / 2**20:.0f} MiB"
            os.truncate(said, 0)
            told.write(json.dumps({"end": index, "outcome": outcome, "why": why, "command": case.command}) + "\n")
        told.write('{"through": true}\n')


def _serve() -> None:
    """The nursery's own process: for each line {"kind", "folder"} it answers with the file that tells the outcomes."""
    import bad_kinds

    for request in sys.stdin:
        asked = json.loads(request)
        name, home = asked["kind"], Path(asked["folder"])
        kind, template, out = bad_kinds.KINDS[name], home / "template", home / "outcomes"
        template.mkdir(parents=True)
        kind.make(template)
        out.touch()
        while (child := _forked(name, kind, template, home / "work", out)) is not None:
            how = "it hung" if child == "hung" else f"it crashed the interpreter: {child}"
            with open(out, "a") as told:
                told.write(json.dumps({"end": _last(out), "outcome": "failed", "why": how, "command": False}) + "\n")
        print(json.dumps(str(out)), flush=True)


def _last(out: Path) -> int:
    begun = [json.loads(line)["begin"] for line in out.read_text().splitlines() if line.startswith('{"begin"')]
    return begun[-1] if begun else -1


def _forked(name: str, kind: Kind, template: Path, work: Path, out: Path) -> str | None:
    """A child for the cases that are left; None when it is through, or how it ended."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            raise_children(name, kind, template, work, out, _last(out) + 1)
            status = 0
        except BaseException:
            with open(out.with_suffix(".broken"), "a") as file:
                file.write(traceback.format_exc())
        finally:
            os._exit(status)
    size, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return None if status == 0 or out.with_suffix(".broken").exists() else f"status {status}"
        if (now := out.stat().st_size) != size:
            size, since = now, time.monotonic()
        if time.monotonic() - since > HANG:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return "hung"
        time.sleep(0.02)


class Nursery:
    """The process that has imported everything once."""

    def __init__(self, folder: Path):
        self.folder = folder
        here = os.path.dirname(os.path.abspath(__file__))
        root = os.path.dirname(os.path.dirname(here))
        environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([root, here, os.environ.get("PYTHONPATH", "")])
        environment["HOME"] = str(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "always", "-c", "import bad; bad._serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=folder,
            text=True,
        )

    def outcomes(self, kind: str) -> list[dict]:
        """What came of every case of a kind: {"case", "outcome", "why", "command"}."""
        print(json.dumps({"kind": kind, "folder": str(self.folder / kind)}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the nursery is gone: see its traceback above"
        broken = (out := Path(json.loads(answer))).with_suffix(".broken")
        assert not broken.exists(), broken.read_text()  # the watch itself, or what makes the cases
        *said, last = map(json.loads, out.read_text().splitlines())
        assert last == {"through": True}, "some cases were left out"
        begun = {line["begin"]: line["case"] for line in said if "begin" in line}
        ended = [{"case": begun[line["end"]], **line} for line in said if "end" in line]
        assert len(ended) == len(begun)
        shutil.rmtree(self.folder / kind)
        return ended

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
