"""The guard itself: what it refuses and writes down, in every kind of process that a run of the tests has."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ELSEWHERE = "192.0.2.1"  # of a block that is kept for documentation
SWALLOW = f"""
import socket
try:
    socket.socket().connect(("{ELSEWHERE}", 80))
except OSError as error:
    print(error)
"""
REFUSED = f"offline: socket.connect to {ELSEWHERE} refused, tests and notebooks may reach nothing but this machine"
guarded = pytest.mark.skipif("ALIKIT_OFFLINE_LOG" not in os.environ, reason="without -p tests.offline.plugin no guard")


@pytest.fixture
def log(tmp_path, monkeypatch) -> Path:
    """Takes the place of the run's own log, which must stay clean."""
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("ALIKIT_OFFLINE_LOG", str(log))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(HERE), os.environ["PYTHONPATH"])))
    return log


@pytest.fixture
def alone(monkeypatch):
    """As if no run were going on: what is started here guards itself, or not at all."""
    monkeypatch.delenv("ALIKIT_OFFLINE_LOG", raising=False)


def noted(log: Path, kind: str = "refused") -> list[list[str]]:
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    return [rest for first, *rest in lines if first == kind]


def python(*arguments: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


def notebook(path: Path, *sources: str) -> Path:
    nbformat.write(new_notebook(cells=[*map(new_code_cell, sources)]), path)
    return path


@guarded
def test_every_way_out(log):
    ways = {
        "socket.connect": lambda: socket.socket().connect_ex((ELSEWHERE, 80)),
        "socket.sendto": lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", (ELSEWHERE, 9)),
        "socket.sendmsg": lambda: socket.socket(type=socket.SOCK_DGRAM).sendmsg([b""], [], 0, (ELSEWHERE, 9)),
        "socket.getaddrinfo": lambda: socket.getaddrinfo(b"example.org", 80),
        "socket.gethostbyname": lambda: socket.gethostbyname_ex(ELSEWHERE),
        "socket.gethostbyaddr": lambda: socket.gethostbyaddr(ELSEWHERE),
        "socket.getnameinfo": lambda: socket.getnameinfo((ELSEWHERE, 80), 0),
    }
    for event, attempt in ways.items():
        with pytest.raises(OSError, match=f"^offline: {event} to .* refused"):
            attempt()
    assert [event for event, _ in noted(log)] == list(ways)


@guarded
def test_this_machine_may_be_looked_up_and_reached(log, tmp_path):
    for host in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "0.0.0.0", None):
        socket.getaddrinfo(host, 80)
    socket.getfqdn(socket.gethostname())
    with socket.create_server(("localhost", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        client.connect(str(tmp_path / "socket"))
    assert not noted(log)


def test_a_subprocess_and_what_it_forks(log):
    finished = python("-c", f"import os\nif os.fork(): os.wait()\nelse:\n    exec({SWALLOW!r})")
    assert finished.stdout.strip() == REFUSED
    assert noted(log) == [["socket.connect", ELSEWHERE]]
    assert len(noted(log, "guarded")) == 2


LIGHT = ("-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "-p", "tests.offline.plugin")


def test_a_run_of_tests_fails_for_what_a_library_swallows(alone, tmp_path):
    """In a worker, and in a kernel of nbval; at the end it says so, and how much it saw."""
    on_purpose = "import socket\ntry:\n    socket.getaddrinfo('a.invalid', 80)\nexcept OSError:\n    pass"
    (tmp_path / "test_reach.py").write_text(f"def test_passes():\n    exec({SWALLOW!r})\n    exec({on_purpose!r})\n")
    notebook(tmp_path / "reach.ipynb", SWALLOW.replace("192.0.2.1", "192.0.2.2"))
    finished = python(*LIGHT, "-n", "1", "--nbval-lax", "--nbval-current-env", tmp_path)
    *_, first, second, said, passed = finished.stdout.splitlines()
    assert "2 passed" in passed and finished.returncode == 1, finished.stdout
    assert {first, second} == {f"network: socket.connect to 192.0.2.{n}, 1 times" for n in (1, 2)}
    attempts = "2 attempts at anything but loopback, and 1 at names under .invalid, as tests meant"
    assert said == f"network: 3 processes guarded, {attempts}"


def test_a_run_of_tests_fails_for_what_it_leaves_behind(alone, tmp_path):
    """In a repository of its own, with a copy of the guard; what was there already is none of it."""
    copy = tmp_path / "repository"
    shutil.copytree(HERE, copy / "tests" / "offline", ignore=shutil.ignore_patterns("__pycache__", "test_*"))
    (copy / "test_leaves.py").write_text("def test_leaves():\n    open('left behind', 'w')\n")
    (copy / ".gitignore").write_text("__pycache__\n")
    for line in ("init", "add --all", "-c user.name=a -c user.email=a commit -m all"):
        subprocess.run(["git", *line.split()], cwd=copy, check=True, capture_output=True)
    run = (*LIGHT, "-p", "no:xdist", "-p", "no:nbval", "test_leaves.py")
    first, second = python(*run, cwd=copy), python(*run, cwd=copy)
    assert first.returncode == 1 and 'repository: ?? "left behind", which was not so before' in first.stdout
    assert second.returncode == 0, second.stdout


def test_the_tour_fails_for_what_a_cell_swallows(alone, tmp_path):
    """As `make tour` starts it."""
    cells = (SWALLOW, f"socket.create_connection(('{ELSEWHERE}', 80), timeout=5)")
    path = notebook(tmp_path / "01_reach.ipynb", *cells)
    finished = python("-m", "tests.offline", "tools/tour.py", "--out", tmp_path / "html", path)
    assert finished.returncode == 1
    assert finished.stdout.splitlines()[-1] == "network: 3 processes guarded, 2 attempts at anything but loopback"
    failed, *lines = finished.stderr.splitlines()
    assert failed.startswith("01_reach.ipynb: code cell 2 failed: OSError: offline: socket.getaddrinfo to 192.0.2.1 ")
    assert lines == [f"network: socket.{way} to 192.0.2.1, 1 times" for way in ("connect", "getaddrinfo")]
