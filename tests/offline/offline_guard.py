"""Nothing but this machine: refuses each attempt of a Python process to reach anything else, and writes it down.

`sitecustomize.py` beside this file imports it, so with this folder on PYTHONPATH it is in every Python process that
inherits the environment: workers of the tests, commands that they start, kernels of notebooks. It does nothing where
ALIKIT_OFFLINE_LOG does not name the file to write to: a line for each process, each refused attempt, and each path that
a kernel wrote where no notebook has anything to write.

An audit hook cannot be taken off again and sees what goes through Python's own `socket`, `open`, `os` and `sqlite3`,
whoever calls them. It does not see sockets and files that a library opens in C, C++ or Rust (ZeroMQ between kernel and
notebook, Gloo between processes that train together, safetensors), programs that are not Python (Chromium), nor a
Python that was started with -I, -E or -S. A network namespace that has nothing but loopback shows what those do:
`unshare -rn sh -c 'ip link set lo up; exec make test'`. And a name that is given to `connect` itself, not looked up
before as libraries do, C looks up before the hook is asked; the connection is refused all the same.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "build" / "notebooks"  # what a notebook leaves here is its own
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_asking = threading.local()


def note(kind: str, event: str = "", what: object = "") -> None:
    """Appends one line to the log, whole: the processes of a run write to it at the same time."""
    line = "\t".join((kind, event, " ".join(str(what).split())))
    with contextlib.suppress(OSError):  # a process may outlive the run and its log
        log = os.open(os.environ["ALIKIT_OFFLINE_LOG"], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(log, f"{line}\n".encode())
        finally:
            os.close(log)


# The network.


def is_here(host: object) -> bool:
    """Whether a name or an address is this machine: loopback, "any of mine", its own name, which libraries look up."""
    import ipaddress
    import socket

    name = os.fsdecode(host).lower() if isinstance(host, str | bytes) else ""
    if not host or name in ("localhost", socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def refuse_unless_here(event: str, host: object) -> None:
    if not is_here(host):
        host = os.fsdecode(host) if isinstance(host, bytes) else host
        note("refused", event, host)
        raise OSError(f"offline: {event} to {host} refused, tests and notebooks may reach nothing but this machine")


def on_address(event: str, arguments: tuple) -> None:
    """(socket, address): an address is a host and a port, but of a Unix socket a path, of others numbers."""
    address = arguments[1]
    if isinstance(address, tuple) and address and isinstance(address[0], str | bytes):
        refuse_unless_here(event, address[0])


def on_name(event: str, arguments: tuple) -> None:
    refuse_unless_here(event, arguments[0])


def on_address_by_itself(event: str, arguments: tuple) -> None:
    refuse_unless_here(event, arguments[0][0])


NETWORK = {
    "socket.connect": on_address,
    "socket.sendto": on_address,
    "socket.sendmsg": on_address,
    "socket.getaddrinfo": on_name,
    "socket.gethostbyname": on_name,
    "socket.gethostbyaddr": on_name,
    "socket.getnameinfo": on_address_by_itself,
}


# What a kernel writes.


def places() -> Iterable[str]:
    """Where a kernel may write besides RUNS: temporary folders, devices, and what its libraries call their own."""
    import tempfile

    yield from (tempfile.gettempdir(), os.path.dirname(os.devnull))
    for library, functions in {
        "IPython.paths": ("get_ipython_dir", "get_ipython_cache_dir"),
        "jupyter_core.paths": ("jupyter_data_dir", "jupyter_runtime_dir", "jupyter_config_dir"),
        "matplotlib": ("get_configdir", "get_cachedir"),
    }.items():
        for function in functions if library in sys.modules else ():
            yield getattr(sys.modules[library], function)()


def is_own(path: str) -> bool:
    """Whether a kernel may write this path. The repository may lie in a temporary folder, so it comes first."""
    path = Path(os.path.realpath(path))
    if "__pycache__" in path.parts or path.is_relative_to(RUNS) or RUNS.is_relative_to(path):
        return True
    if path.is_relative_to(ROOT):
        return False
    return any(path.is_relative_to(os.path.realpath(place)) for place in places())


def note_unless_own(event: str, path: object) -> None:
    if isinstance(path, str | bytes | os.PathLike) and not getattr(_asking, "now", False):
        _asking.now = True  # libraries that are asked for their folders make them
        try:
            if not is_own(os.fsdecode(path)):
                note("wrote", event, os.path.realpath(os.fsdecode(path)))
        finally:
            _asking.now = False


def on_open(event: str, arguments: tuple) -> None:
    path, mode, flags = arguments
    if flags & WRITES or (isinstance(mode, str) and set(mode) & set("wax+")):
        note_unless_own(event, path)


def on_path(event: str, arguments: tuple) -> None:
    if arguments[-1] == -1:  # else it is relative to a folder that is open, as where a whole tree is removed
        note_unless_own(event, arguments[0])


def on_two_paths(event: str, arguments: tuple) -> None:
    note_unless_own(event, arguments[1])


def on_database(event: str, arguments: tuple) -> None:
    if arguments[0] != ":memory:":
        note_unless_own(event, arguments[0])


FILES = {
    "open": on_open,
    "os.mkdir": on_path,
    "os.remove": on_path,
    "os.rmdir": on_path,
    "os.rename": on_two_paths,
    "os.link": on_two_paths,
    "os.symlink": on_two_paths,
    "sqlite3.connect": on_database,
}


def install() -> None:
    """Guards this process from now on, and those that it forks. Once is enough."""
    if getattr(install, "done", False):
        return
    install.done = True
    watched: dict[str, Callable] = dict(NETWORK)
    if "ipykernel_launcher" in sys.orig_argv:
        watched |= FILES

    def hook(event: str, arguments: tuple) -> None:
        if event in watched:
            watched[event](event, arguments)

    note("guarded")
    sys.addaudithook(hook)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: note("guarded"))


if "ALIKIT_OFFLINE_LOG" in os.environ:
    install()
