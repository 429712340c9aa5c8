"""Recorded runs: what `results/` keeps of a run on pictures, small enough for a repository and free of its data.

    settings.json                  of the run, with hardware, hours, pictures seen and the names of classes
    metrics.json                   measured with the weights as they are stored here; of the probe the names of its rows
                                   and how well it reads each attribute; of rendered data R^2 of each factor
    metrics.jsonl                  the run's log
    encoder.safetensors, decoder.safetensors
                                   packed weights, see `storage`
    codes.safetensors              of held-out pictures: mean (Z,) and covariance (Z, Z) of q(z), 500 codes with their
                                   labels, and the weights of the linear probe, and of linear readings of factors
    judge.safetensors              of conditional runs with attributes: the packed `AttributeClassifier`, whose findings
                                   are in metrics.json; y of the paper's grid is in codes
    samples.png, reconstructions.png, interpolations.png, cycle.png, learning.png
    grid.png, switches.png, switched.png
                                   of conditional runs: the paper's 4 x 12 attributes of one z; attributes switched one
                                   by one, or up to 14 classes, of codes from the prior and of encoded held-out pictures
    samples-epoch-001.png          some samples from the same codes after 1, 10 and 100 epochs, and after the last

Every picture here is the model's own, for the data's licence may forbid more: reconstructions stand alone, and
`cycle.png` starts from codes.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from safetensors.torch import load
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import distributed, reading, runs, storage
from ..data import Dataset
from ..data.conditions import NAMED, paper_grid
from ..errors import AlikitError, unwritten
from ..evaluation import (
    AttributeClassifier,
    FeatureNetwork,
    attributes,
    class_agreement,
    codes,
    measured,
    probe,
    train_classifier,
)
from ..evaluation.factors import scales
from ..evaluation.features import FEWEST
from ..evaluation.inference import conditions_of
from ..evaluation.measured import named, same_chance
from ..evaluation.samples import PER_FEATURE
from ..figures import learning_figure
from ..models import Game
from .pictures import sheets, switch_sheets
from .watching import TIMES, enough_memory

MOST_CODES = 2**24  # bytes of a record's codes and probes; ours take some 200,000
MOST_CLASSES = 200  # of which a record keeps the confusion: its metrics have a limit too
CODES = 500  # held-out codes that are kept with their labels
FOLDERS = re.compile(r"(?:^|(?<=[=:]))[/~](.*/)?(?=[^/])")  # of an absolute path, alone or as in --out=PATH
AGAIN = "record it anew"


@dataclass(frozen=True)
class Recorded:
    """A recorded run, opened: the model (it samples, encodes and reconstructs, and has no discriminator), its settings,
    metrics and log, what `codes.safetensors` keeps, by name, and of conditional runs their attribute classifier."""

    model: Game
    settings: dict
    metrics: dict
    log: list[dict]
    codes: dict[str, Tensor]
    classifier: AttributeClassifier | None = None


def recorded(folder: str | Path) -> Recorded:
    """Opens a folder that `record` made. AlikitError where something in it is missing or damaged."""
    folder = Path(folder)
    settings, model, classifier = runs.read_settings(folder), runs.load_model(folder), None
    with reading.boundary(folder / "codes.safetensors", AGAIN):
        kept, z = load(reading.content(folder / "codes.safetensors", MOST_CODES)), model.z_dim
        shapes = {"q_mean": (z,), "q_covariance": (z, z), "codes": (len(kept["codes"]), z)}
        if any(kept[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("codes of another model")
        if any(tensor.is_complex() or not tensor.isfinite().all() for tensor in kept.values()):
            raise ValueError("codes that are not finite numbers")
    if (file := folder / "judge.safetensors").exists():
        with reading.boundary(file, AGAIN):
            classifier = AttributeClassifier(settings["number_of_attributes"], settings["x_shape"][1]).eval()
            storage.from_file(classifier, file)
    return Recorded(model, settings, metrics_of(folder), runs.metrics(folder), kept, classifier)


def metrics_of(folder: Path) -> dict:
    """The metrics.json of a record. AlikitError where it is missing or damaged."""
    with reading.boundary(folder / "metrics.json", AGAIN):
        return {**reading.parsed(reading.content(folder / "metrics.json"))}


def described(model: Game, train: Dataset, held_out: Dataset) -> Recorded:
    """A model just trained as if it were recorded, with codes and probes of its data; without settings or a log."""
    some, found = held_out.some(CODES), {}
    with same_chance():
        q = codes(model, held_out)
    kept = {"q_mean": q["mean"], "q_covariance": q["covariance"]}
    kept["codes"] = model.encode(some.floats().to(model.device), sample=False, y=conditions_of(model, some)).cpu()
    if held_out.labels is not None:
        with same_chance():  # as in `measured`: one fit, for its numbers and its weights
            read = probe(model, train, held_out)
        found |= named("probe", read)
        found |= {"probe_names": list(read["names"]), "probe_attributes": read["attributes"]}
        kept |= {"labels": some.labels, "probe_weight": read["weight"], "probe_bias": read["bias"]}
    if model.attributes and set(NAMED) <= set(train.classes):
        kept["grid"] = paper_grid(train)
    if held_out.factors:
        weight, bias, found["factor_r2"] = scales(model, train, held_out)
        kept |= {"factor_weight": weight, "factor_bias": bias}
    return Recorded(model, {}, found, [], kept)


@enough_memory("measure it on another device")
def record(
    run: Path,
    out: Path,
    parts: tuple[Dataset, Dataset],
    hardware: str,
    data_name: str,
    device: str | None = None,
) -> dict:
    """Writes what is to be kept of a finished run to the folder `out`, whole or not at all; returns the metrics. It
    replaces an older record there.

    parts      the run's training and held-out data
    hardware   what the run was made on, in words
    data_name  what to call the data beside numbers
    device     where to measure; a GPU by default where there is one

    The feature network learned from colour photographs of 32x32: of grey and of smaller pictures, which are enlarged,
    fidelity and copying say less. They and the attribute classifier are left out for pictures that are not square;
    fidelity and copying also where a part has too few.

    AlikitError for a run that is not finished, not on pictures or without an encoder, for other data than it was
    trained on, and where `out` holds something else.
    """
    distributed.device(device)
    restore(out)
    settings = runs.read_settings(run)
    if len(settings["x_shape"]) != 3 or (trained := runs.load_model(run)).encoder is None:
        raise AlikitError(f"{run} is no run on pictures with an encoder: keep its folder as it is")
    if (step := runs.checkpoint(run)["step"]) < settings["steps"]:
        raise AlikitError(f"{run} is at step {step} of {settings['steps']}: finish it with: alikit resume {run}")
    runs.check_same(settings, parts)
    if out.exists() and not ((out / "decoder.safetensors").is_file() and (out / "metrics.json").is_file()):
        raise AlikitError(f"{out} is there already and is no record: choose another folder")
    log = [line for line in runs.metrics(run) if line["step"] <= step]
    batch_size = settings["batch_size"]
    settings["data_from_run"] = runs.placed(runs.source(run, settings), out)
    for name in {"data", "data_from_run", "decoder", "from_run"} & settings.keys():
        settings[name] = settings[name] and FOLDERS.sub("", settings[name])
    settings |= {"command": _without_folders(settings.get("command", "")), "hardware": hardware, "data_name": data_name}
    settings |= {"classes": parts[1].classes, "images_seen": step * batch_size}
    for name, time in zip(("hours", "processor_hours"), TIMES, strict=True):
        settings[name] = round(max((line.get(time, 0) for line in log), default=0) / 3600, 2)
    epoch = len(parts[0]) // batch_size
    with _in_place_of(out) as stage:
        for name, network in (("encoder", trained.encoder), ("decoder", trained.decoder)):
            _write(stage / f"{name}.safetensors", storage.to_file(network))
        runs.write_settings(stage, settings)
        found = _measure(trained, stage, parts, device)
        _write(stage / "metrics.json", json.dumps(found, indent=1).encode())
        _write(stage / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
        runs.save_picture(learning_figure(log, epoch), stage / "learning.png")
        at = {epochs: epochs * epoch for epochs in (1, 10, 100) if epochs * epoch <= step} | {step // epoch: step}
        for epochs, drawn_at in at.items():
            if (file := run / f"samples-{drawn_at:07d}.png").is_file():
                with Image.open(file) as picture:  # a third of it: enough to compare, and small
                    some = picture.crop((0, 0, picture.width, 2 + (picture.height - 2) // 3))
                runs.save_picture(some, stage / f"samples-epoch-{epochs:03d}.png")
    return found


def restore(out: Path) -> None:
    """Brings the record `out` back where a process was killed just when it had set it aside for a new one."""
    if (before := out.parent / f".{out.name}.partial" / "before").is_dir() and not out.exists():
        before.rename(out)


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """A new folder, to be filled, that takes the place of the record `out` at the end, or vanishes on an error. It lies
    beside it, in a folder whose name begins with a dot, so that nothing takes it for a record."""
    aside = out.parent / f".{out.name}.partial"
    new, before = aside / "new", aside / "before"

    def clear() -> None:
        restore(out)
        for folder in (new, before):
            shutil.rmtree(folder, ignore_errors=True)

    with runs.alone(aside, out):
        try:
            clear()  # after a process that was killed
            new.mkdir()
            yield new
            if out.exists():
                out.rename(before)
            new.rename(out)
        except OSError as error:
            raise unwritten(error, out, "or choose another folder") from None
        finally:
            clear()


def _without_folders(command: str) -> str:
    """The command, or several with a ; between, without the folders of absolute paths, which are private."""
    words = shlex.shlex(command, posix=True, punctuation_chars=";")
    words.whitespace_split, words.commenters = True, ""
    return " ".join(word if word == ";" else shlex.quote(FOLDERS.sub("", word)) for word in words).replace(" ;", ";")


def _write(file: Path, content: bytes) -> None:
    runs.write_whole(file, lambda place: place.write_bytes(content))


def _measure(trained: Game, stage: Path, parts: tuple[Dataset, Dataset], device: str | None) -> dict:
    """Measures and draws the model that is stored in `stage`, and adds its codes, attribute classifier and pictures."""
    train, held_out = parts
    model = runs.load_model(stage, device)
    is_square = held_out.shape[1] == held_out.shape[2]
    enough = {"fidelity": PER_FEATURE * FeatureNetwork.num_features, "copying": FEWEST}
    in_features = [metric for metric, n in enough.items() if is_square and min(map(len, parts)) >= n]
    found = measured(model, train, held_out, metrics=("reconstruction", "codes", *in_features, "checkerboard"))
    if trained.classes:  # of the run's own weights: the discriminator, which classifies, is not kept
        found |= measured(trained, train, held_out, metrics=("classification",))
    kept = described(model, train, held_out)
    found |= kept.metrics
    drawn = sheets(model, held_out)
    if model.attributes:
        if is_square and held_out.labels.ndim == 1:
            with same_chance():
                each = class_agreement(model, train, held_out)
            found |= named("classes", each)
            if len(each["confusion"]) <= MOST_CLASSES:
                found["classes_confusion"] = each["confusion"]
        elif is_square:
            classifier = train_classifier(train, device=model.device)
            with same_chance():
                each = attributes(model, train, held_out, classifier)
            found |= named("attributes", each)
            found |= {"attributes_of": each["of"], "attributes_drags": each["drags"]}
            _write(stage / "judge.safetensors", storage.to_file(classifier, limit=0))
        drawn |= switch_sheets(model, held_out, kept.codes.get("grid"))
    for name, sheet in drawn.items():
        runs.save_picture(sheet, stage / f"{name}.png")
    _write(stage / "codes.safetensors", to_bytes({name: tensor.contiguous() for name, tensor in kept.codes.items()}))
    return found
