"""Recorded runs: what `results/` keeps of a run on pictures, small enough for a repository and free of its data.

    settings.json                  of the run, with hardware, wall time and pictures seen
    metrics.json                   what was measured, of the weights as they are stored here
    metrics.jsonl                  the run's log
    encoder.safetensors, decoder.safetensors
                                   packed weights, see `storage`
    codes.safetensors              of held-out pictures: mean (Z,) and covariance (Z, Z) of q(z), 500 codes with their
                                   labels, and the weights of the linear probe
    samples.png, reconstructions.png, interpolations.png, cycle.png, learning.png
    samples-epoch-001.png          how samples looked after 1, 10 and 100 epochs

Every picture here is the model's own, no original is kept: a reconstruction stands alone, and `cycle.png` starts from
codes. The data's licence may forbid more.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from . import runs, storage
from .data import Dataset
from .errors import AlikitError
from .evaluation import METRICS, codes, measured, probe
from .figures import grid, learning_figure
from .models import Game
from .recipes import RECIPES

CODES = 500  # held-out codes that are kept with their labels


@dataclass(frozen=True)
class Recorded:
    """A recorded run, opened: the model (it samples, encodes and reconstructs, and has no discriminator), its settings,
    what was measured, its log, and what `codes.safetensors` keeps, by name."""

    model: Game
    settings: dict
    metrics: dict
    log: list[dict]
    codes: dict[str, Tensor]


def recorded(folder: str | Path) -> Recorded:
    """Opens a folder that `record` made. AlikitError, in one line, where something in it is missing or damaged."""
    folder = Path(folder)
    settings = runs.settings(folder)
    try:
        metrics, codes = json.loads((folder / "metrics.json").read_text()), load_file(folder / "codes.safetensors")
    except OSError as error:
        raise AlikitError(f"{error.filename or folder} is missing: make a recorded run with alikit record") from None
    except (ValueError, SafetensorError):
        raise AlikitError(f"metrics or codes in {folder} are damaged: take the recorded run anew") from None
    return Recorded(runs.load_model(folder), settings, metrics, runs.metrics(folder), codes)


def record(run: Path, out: Path, parts: tuple[Dataset, Dataset], hardware: str, data_name: str) -> dict:
    """Writes what is to be kept of a finished run into `out`, which may be an older record of it; returns the metrics.

    parts      the run's training and held-out data
    hardware   what the run was made on, in words
    data_name  what the data is to be called beside numbers
    """
    settings, log = runs.settings(run), runs.metrics(run)
    if len(settings["x_shape"]) != 3 or RECIPES[settings["recipe"]].encoder is None:
        raise AlikitError(f"{run} is no run on pictures with an encoder: keep its folder as it is")
    trained = runs.load_model(run)
    out.mkdir(parents=True, exist_ok=True)
    for name, network in (("encoder", trained.encoder), ("decoder", trained.decoder)):
        _write(out / f"{name}.safetensors", storage.to_file(network))
    epoch = len(parts[0]) // settings["batch_size"]
    reports = [line for line in log if "generator" in line]
    runs.write_settings(
        out,
        settings
        | {
            "data_from_run": runs.placed(runs.source(run, settings), out),
            "data_name": data_name,
            "hardware": hardware,
            "hours": round(reports[-1].get("seconds", 0) / 3600, 2),
            "images_seen": reports[-1]["step"] * settings["batch_size"],
        },
    )
    model = runs.load_model(out)
    found = measured(model, *parts, metrics=METRICS)
    _write(out / "codes.safetensors", to_bytes(_codes(model, *parts)))
    _draw(model, parts[1], log, epoch, out)
    for epochs in (1, 10, 100):
        if (picture := run / f"samples-{epochs * epoch:07d}.png").is_file():
            shutil.copyfile(picture, out / f"samples-epoch-{epochs:03d}.png")
    _write(out / "metrics.jsonl", (run / "metrics.jsonl").read_bytes())
    _write(out / "metrics.json", json.dumps(found, indent=1).encode())
    return found


def _write(file: Path, content: bytes) -> None:
    runs.write_whole(file, lambda place: place.write_bytes(content))


def _codes(model: Game, train: Dataset, held_out: Dataset) -> dict[str, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        q = codes(model, held_out)
        some = held_out.some(CODES)
        found = {"q_mean": q.mean, "q_covariance": q.covariance, "codes": model.encode(some.floats(), sample=False)}
        if held_out.labels is not None:
            read = probe(model, train, held_out)
            found |= {"labels": some.labels, "probe_weight": read.weight, "probe_bias": read.bias}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _draw(model: Game, held_out: Dataset, log: list[dict], epoch: int, out: Path) -> None:
    """The model's own pictures, from the same chance each time."""
    x = held_out.some(40).floats()
    zoom = max(1, 64 // x.shape[-1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z, paths = model.prior(10), model.interpolate(x[0:20:2], x[1:20:2], steps=10)
        cycle = [model.decode(z)]
        for _ in range(3):
            cycle.append(model.reconstruct(cycle[-1], sample=False))
        sheets = {
            "samples": model.sample(100),
            "reconstructions": torch.cat([model.reconstruct(x, sample=False), model.reconstruct(x)]),
            "interpolations": paths.flatten(0, 1),
            "cycle": torch.cat(cycle),
        }
    for name, pictures in sheets.items():
        runs.save_picture(grid(pictures, columns=10, zoom=zoom), out / f"{name}.png")
    runs.save_picture(learning_figure(log, epoch), out / "learning.png")
