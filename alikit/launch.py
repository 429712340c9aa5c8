"""How the processes of one run come to be: started here by torchrun's launcher, or by the user's own torchrun.

Whoever starts them says in the environment of each which it is. Every process then runs the same command line.
"""

import logging
import os
import shlex
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist

from . import parallel, runs
from .errors import AlikitError

# As long as the first process may take to fetch its data, or to draw and measure; the others wait for it.
PATIENCE = timedelta(hours=2)
LOST, STOPPED = 75, 130  # exit status of a process whose others are gone, and of one that was asked to stop

_store: dist.Store | None = None  # where all processes of the run can leave a word


def is_worker() -> bool:
    """Whether this process was started by torchrun, or its launcher, as one of several."""
    started = dist.is_available() and dist.is_torchelastic_launched()
    return started and int(os.environ.get("WORLD_SIZE", 1)) > 1


def flags() -> list[str]:
    """The options of the command line that start as many processes as there are, none for one by itself."""
    if not is_worker():
        return []
    devices, nodes = os.environ["LOCAL_WORLD_SIZE"], os.environ["GROUP_WORLD_SIZE"]
    return ["--devices", devices, *(["--num-nodes", nodes, "--rendezvous", "HOST:PORT"] if nodes != "1" else [])]


def speaks() -> bool:
    """Whether this process is the one to report a mistake that all of them may have met: the first to ask is."""
    if not is_worker():
        return True
    if _store is None:
        return os.environ["RANK"] == "0"
    try:
        return _store.add("spoken", 1) == 1
    except RuntimeError:  # whoever kept it is gone
        return False


def end(status: int) -> NoReturn:
    """Ends this process. One of several ends at once: while Python takes itself down, threads that libraries still have
    at work may abort it (seen once), and the run would count as lost though all was saved."""
    if is_worker():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def launch(
    run: Path,
    batch_size: int,
    devices: int | None = None,
    nodes: int = 1,
    rendezvous: str | None = None,
    strategy: str = "ddp",
) -> int | None:
    """Has this command run by several processes, where that is asked for; returns the exit status when they are done.

    In a process that is one of several already, joins the others, and returns None; so it does for one by itself.

    run         the folder that they train into, or go on with
    devices     processes on each machine: each has a GPU, or its share of the cores where there is none
    nodes       machines; the same command is given on each
    rendezvous  HOST:PORT where machines find each other, HOST being one of them

    Raises AlikitError for options that do not go together.
    """
    _check(devices, nodes, rendezvous, strategy)
    if is_worker():
        total = (devices or 1) * nodes
        if devices and total != int(os.environ["WORLD_SIZE"]):
            raise AlikitError(f"{total} processes are asked for, and {os.environ['WORLD_SIZE']} were started")
        _join()
        return None
    devices = devices or 1
    if devices * nodes == 1:
        return None
    parallel.check_divides(batch_size, devices * nodes)
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise AlikitError(f"--devices {devices}, and this machine has {torch.cuda.device_count()} of them")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // devices)))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _started(run, devices, nodes, rendezvous)
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in before.items():
            signal.signal(number, handler)


def _check(devices: int | None, nodes: int, rendezvous: str | None, strategy: str) -> None:
    if strategy != "ddp":
        raise AlikitError(f"no strategy called {strategy!r}: there is ddp, every process with the whole model")
    if nodes > 1 and not rendezvous and not is_worker():
        raise AlikitError("machines must find each other: add --rendezvous HOST:PORT, HOST being one of them")
    if rendezvous and nodes == 1:
        raise AlikitError("one machine needs no --rendezvous: leave it out, or add --num-nodes")
    host, _, port = (rendezvous or "localhost:0").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise AlikitError(f"--rendezvous is HOST:PORT, node01:29500 say, and not {rendezvous}")
    if (nodes > 1 or (devices or 1) > 1) and not dist.is_available():
        raise AlikitError("this PyTorch was built without torch.distributed: train with one process")


def _join() -> None:
    global _store
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        _store, rank, world = next(dist.rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group(backend, store=_store, rank=rank, world_size=world, timeout=PATIENCE)
    except RuntimeError as error:
        raise parallel.Lost(str(error)) from error
    if rank:
        logging.disable()  # what is told is the same in all


def _started(run: Path, devices: int, nodes: int, rendezvous: str | None) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id="alikit",
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        local_addr=None if rendezvous else "localhost",
        max_restarts=0,  # whoever goes on from a checkpoint should know that it did
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle="SIGTERM",
    )
    logging.disable()  # the launcher's account of what it does; from here on this process only waits
    # Workers are not in this process's group: what it is asked, it asks of them, and by the signal that ends them
    # quietly when it comes before they are ready for any.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        elastic_launch(config, sys.executable)("-m", "alikit", *sys.argv[1:])
    except ChildFailedError as error:
        return _ended(error.failures, run, devices, nodes, rendezvous)
    except (SignalException, KeyboardInterrupt):
        return STOPPED
    except (RendezvousError, dist.DistError) as error:
        raise AlikitError(
            f"the processes did not find each other at {config.rdzv_endpoint} ({str(error).splitlines()[0]}): "
            "give all machines the same --num-nodes, and a --rendezvous that they can reach"
        ) from None
    return 0


def _ended(failures: dict, run: Path, devices: int, nodes: int, rendezvous: str | None) -> int:
    """Says which worker was the first to end, by what, and how to go on; returns the exit status."""

    def order(rank: int) -> tuple:  # those that only followed come last
        return failures[rank].exitcode in (LOST, STOPPED, -signal.SIGTERM), failures[rank].timestamp

    rank = min(failures, key=order)
    status = failures[rank].exitcode
    if status in (2, STOPPED):  # said by the worker
        return status
    if nodes == 1:
        runs.tidy(run)
    if status == LOST:
        how = "the workers here lost the others: see what these say"
    elif status < 0:
        how = f"worker {rank} of {devices * nodes} was killed by {signal.Signals(-status).name}"
    else:
        how = f"worker {rank} of {devices * nodes} ended with status {status}, as it says above"
    options = ["--devices", devices, *(["--num-nodes", nodes, "--rendezvous", rendezvous] if nodes > 1 else [])]
    if (run / "settings.json").is_file():
        again = shlex.join(map(str, ["alikit", "resume", run, *options]))
        step = 0 if runs.is_untouched(run) else runs.checkpoint(run)["step"]
        rest = f"{run} keeps the checkpoint of step {step}; go on with: {again}"
    else:
        rest = f"it had not begun, and {run} is not there: train again"
    print(f"\nalikit: {how}; {rest}", file=sys.stderr)
    return 1
