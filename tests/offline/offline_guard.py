"""Nothing but this machine: refuses each attempt of a Python process to reach anything else, and writes it down.

`sitecustomize.py` beside this file imports it, so with this folder on PYTHONPATH it is in every Python process that
inherits the environment: workers, commands, kernels of notebooks. It does nothing unless ALIKIT_OFFLINE_LOG names the
file to write to: a line for each process, and for each refused attempt.

An audit hook does not see what a library opens in C, C++ or Rust, nor another program: see docs/trust.md. If a name is
given to `connect` itself, C looks it up before the hook runs; the connection is refused all the same.
"""

import contextlib
import os
import sys


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


def install() -> None:
    """Guards this process from now on, and those that it forks. Once is enough."""
    if getattr(install, "done", False):
        return
    install.done = True

    def hook(event: str, arguments: tuple) -> None:
        if event in NETWORK:
            refuse_unless_here(event, arguments)

    note("guarded")
    sys.addaudithook(hook)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: note("guarded"))


if "ALIKIT_OFFLINE_LOG" in os.environ:
    install()
