"""Nothing but this machine: refuses each attempt of a Python process to reach anything else, and writes it down.

`sitecustomize.py` beside this file imports it, so with this folder on PYTHONPATH it is in every Python process that
inherits the environment: workers, commands, kernels of notebooks. It does nothing unless ALIKIT_OFFLINE_LOG names the
file to write to: a line for each process, each refused attempt, and each path that a kernel wrote where it may not.

An audit hook does not see what a library opens in C, C++ or Rust, nor another program: see docs/trust.md. If a name is
given to `connect` itself, C looks it up before the hook runs; the connection is refused all the same.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "build" / "notebooks"  # what a notebook leaves here is its own
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_busy = threading.local()


def note(kind: str, event: str = "", what: object = "") -> None:
    """Appends one line to the log, whole: the processes of a run write to it at the same time."""
    line = "\t".join((kind, event, " ".join(str(what).split())))
    with contextlib.suppress(OSError):  # a process may outlive the run and its log
        log = os.open(os.environ["ALIKIT_OFFLINE_LOG"], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(log, f"{line}\n".encode())
        finally:
            os.close(log)


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


# For each event of the network, where among its arguments the address or the name is. An address is a host and a port,
# but of a Unix socket a path, and of others numbers.
NETWORK = {
    **dict.fromkeys(("socket.connect", "socket.sendto", "socket.sendmsg"), 1),
    **dict.fromkeys(("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"), 0),
}


def refuse_unless_here(event: str, arguments: tuple) -> None:
    host = arguments[NETWORK[event]]
    if NETWORK[event] == 1 or event == "socket.getnameinfo":
        host = host[0] if isinstance(host, tuple) and host and isinstance(host[0], str | bytes) else ""
    if not is_here(host):
        host = os.fsdecode(host) if isinstance(host, bytes) else host
        note("refused", event, host)
        raise OSError(f"offline: {event} to {host} refused, tests and notebooks may reach nothing but this machine")


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


# For each event that writes, where among its arguments the path is.
FILES = {
    **dict.fromkeys(("open", "os.mkdir", "os.remove", "os.rmdir", "sqlite3.connect"), 0),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink"), 1),
}


def note_unless_own(event: str, arguments: tuple) -> None:
    path = arguments[FILES[event]]
    if event == "open":
        _, mode, flags = arguments
        writes = flags & WRITES or (isinstance(mode, str) and set(mode) & set("wax+"))
    else:
        # A folder that is open is the last argument, as where a whole tree is removed; -1 is none.
        writes = arguments[-1] == -1 if event in ("os.mkdir", "os.remove", "os.rmdir") else path != ":memory:"
    if writes and isinstance(path, str | bytes | os.PathLike) and not getattr(_busy, "now", False):
        _busy.now = True  # `places` makes libraries create their folders
        try:
            if not is_own(os.fsdecode(path)):
                note("wrote", event, os.path.realpath(os.fsdecode(path)))
        finally:
            _busy.now = False


def install() -> None:
    """Guards this process from now on, and those that it forks. Once is enough."""
    if getattr(install, "done", False):
        return
    install.done = True
    is_kernel = "ipykernel_launcher" in sys.orig_argv

    def hook(event: str, arguments: tuple) -> None:
        if event in NETWORK:
            refuse_unless_here(event, arguments)
        elif is_kernel and event in FILES:
            note_unless_own(event, arguments)

    note("guarded")
    sys.addaudithook(hook)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: note("guarded"))


if "ALIKIT_OFFLINE_LOG" in os.environ:
    install()
