"""Every kind of file that is read, damaged in many ways: refused by an AlikitError of one printable line, or read.

A process of its own reads one case after the other, with limited memory. It notes what would run code, use the network,
unpickle, or write outside the case's folder; and nothing else is to be printed.
"""

import json
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from stat import S_IFSOCK, S_ISREG

import pytest
import torch
from bad_kinds import KINDS, Content, Hostile, Some
from started import SOAK, Started

from alikit.errors import AlikitError

RANDOM = 100 if SOAK else 6  # cases damaged at random
ROOM, ASKED = 2**30, 2**28  # bytes of memory that a process may map, and that reading one file may take
HOLE = 2**34  # bytes that a file seems to have, and the disk does not
EVENTS = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "subprocess.Popen"),
    *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "ctypes.dlopen", "webbrowser.open"),
    *("pickle.find_class", "sqlite3.load_extension", "sqlite3.enable_load_extension"),
)
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")


def cases(name: str, whole: bytes) -> Iterator[tuple[str, Content, bool]]:
    """All cases of a kind, the same every time: name, content, and whether it must be refused. `whole` is good."""
    kind = KINDS[name]
    for group, some in {
        "read": chain(damaged(whole, random.Random(zlib.crc32(name.encode()) + SOAK)), kind.odd(whole)),
        "foreign": (case for case in FOREIGN.items() if case[0] not in kind.file),
        "places": PLACES.items(),
        "hostile": kind.hostile(whole),
    }.items():
        for about, content in some:
            yield about, content, group not in ("read", *kind.forgiven)


def damaged(whole: bytes, chance: random.Random) -> Some:
    yield "as it is", whole
    for length in (0, 1, 8, len(whole) // 2, len(whole) - 1, chance.randrange(len(whole))):
        yield f"cut to {length}", whole[:length]
    for turn in range(RANDOM):
        # Half of them where a format says what is to come: at its beginning or its end.
        edge = min(len(whole), 400)
        place = (chance.randrange(edge), -1 - chance.randrange(edge), *([chance.randrange(len(whole))] * 2))[turn % 4]
        place, bit, new = place % len(whole), chance.randrange(8), chance.randbytes(chance.randrange(1, 64))
        yield f"bit {bit} of byte {place}", whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        if turn % 3 == 0:
            yield f"{len(new)} random bytes at {place}", whole[:place] + new + whole[place + len(new) :]
    yield "rubbish after it", whole + chance.randbytes(1000)
    yield "twice", whole + whole


FOREIGN: dict[str, bytes] = {
    "zeros": bytes(1000),
    "text": b"This is no such file.\n" * 20,
    "pickle that runs code": pickle.dumps(Hostile(), protocol=2),
    "program": b"#!/bin/sh\nmkdir trace\n",
    "png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(17),
    "json": b'{"step": 1}',
    "JSON nested deeply": b"[" * 100_000,
    "archive": b"PK\3\4" + bytes(100) + b"PK\5\6" + bytes(18),
}


PLACES: dict[str, Callable[[Path], object]] = {  # what is no regular file
    "pipe": os.mkfifo,
    "socket": lambda file: os.mknod(file, S_IFSOCK | 0o600),
    "folder": Path.mkdir,
    "hole": lambda file: (file.touch(), os.truncate(file, HOLE)),
    "link to itself": lambda file: file.symlink_to(file.name),
    "device": lambda file: file.symlink_to(os.devnull),
}


@pytest.mark.parametrize("name", KINDS)
def test_bad_files_are_refused_in_one_line_or_read(name, tmp_path, record_property):
    (tmp_path / "found").write_text('["before the first one", {}, []]')
    process = Started(tmp_path, read_cases, name, tmp_path)
    try:
        status = process.wait()
    except AssertionError as hangs:
        status = hangs
    now, count, failed = json.loads((tmp_path / "found").read_text())
    if status:
        failed.append([now, f"it hung, or crashed the interpreter: {status}; {process.err}"])
    record_property("bad input", {"kind": name, "refused": 0, "read": 0, **count, "failed": len(failed)})
    assert not failed, "\n".join(f"{name}, {about}: {why}" for about, why in failed)
    assert "refused" in count or KINDS[name].forgiven, "nothing was refused, so nothing was damaged"


# What follows runs in the watched process.


def watched(folder: Path) -> list[str]:
    """A list that grows with everything this process does from now on that reading a file does not."""
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event in EVENTS and not str(arguments[0]).startswith("libnvidia"):  # PyTorch, for a GPU
            seen.append(f"{event} {arguments!r:.200}")
        elif event in ("open", *CHANGES) and isinstance(arguments[0], str | bytes | os.PathLike):
            mode, flags = (arguments[1] or "", arguments[2] or 0) if event == "open" else ("", 0)
            writes = set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if (writes or (event != "open" and arguments[-1] in (-1, None))) and not path.startswith(str(folder)):
                seen.extend([f"{event} {path}"] if path != os.devnull else [])

    sys.addaudithook(hook)
    return seen


def contents(folder: Path) -> dict[str, tuple]:
    """Every file and folder by name, with what tells whether it was written since."""
    found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")}
    return {name: (s.st_ino, s.st_mode) + (s.st_size, s.st_mtime_ns) * S_ISREG(s.st_mode) for name, s in found.items()}


def memory(what: str) -> int:
    """Bytes of this process, as Linux counts them: VmSize, VmRSS, or VmHWM, the largest VmRSS since the count began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def outcome_of(read: Callable[[], object], must: bool) -> list[str]:
    """ "refused" or "read" or "failed", and why."""
    try:
        read()
    except AlikitError as error:
        line, behind = str(error), error
        while behind := behind.__cause__ or behind.__context__:
            if isinstance(behind, MemoryError) or any(w in str(behind).lower() for w in ("allocate", "bad_alloc")):
                return ["failed", f"it took too much memory: {behind}"]
        return ["refused", line] if line and line.isprintable() else ["failed", f"not one printable line: {line!r}"]
    except BaseException as error:
        return ["failed", "".join(traceback.format_exception(error))[-1500:]]
    return ["failed", "it was read, and is hostile"] if must else ["read", ""]


def read_cases(name: str, folder: Path) -> None:
    """Reads all cases; before each it keeps its name, how many were refused and read, and what failed and why."""
    kind, template, place, said = KINDS[name], folder / "good", folder / "work" / "case", Path("/dev/fd/2").resolve()
    template.mkdir()
    place.parent.mkdir()
    os.environ["HOME"] = str(folder)
    kind.make(template)
    torch.set_num_threads(1)
    warnings.simplefilter("always")
    os.chdir(place.parent)
    whole, seen, count, failed = (template / kind.file).read_bytes(), watched(place.parent), Counter(), []
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ROOM,) * 2)
    for about, content, must in cases(name, whole):
        (folder / "found").write_text(json.dumps([about, count, failed]))
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place)
        (place / kind.file).unlink()
        content(place / kind.file) if callable(content) else (place / kind.file).write_bytes(content)
        os.truncate(said, 0)
        before = contents(place)
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
        begun = memory("VmRSS")
        seen.clear()
        (outcome, why), did = outcome_of(lambda: kind.read(place), must), [*seen]
        after, took, text = contents(place), memory("VmHWM") - begun, said.read_text(errors="replace")
        changed = {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
        changed = sorted(file for file in changed if not file.startswith(kind.written))
        wrongs = {
            why: outcome == "failed" or (about == "as it is" and outcome != "read"),
            f"it did more than read: {did}": did and not about.startswith("as it is"),
            f"refused, and {changed} changed": outcome == "refused" and changed,
            f"it printed: {text}": text and not text.startswith(("\r", kind.warns)),
            "its code ran": os.path.exists("trace") or (place / "trace").exists(),
            f"it took {took / 2**20:.0f} MiB": took > ASKED,
        }
        if any(wrongs.values()):
            failed.append([about, next(wrong for wrong, is_wrong in wrongs.items() if is_wrong)])
        else:
            count[outcome] += 1
    (folder / "found").write_text(json.dumps(["after the last one", count, failed]))
