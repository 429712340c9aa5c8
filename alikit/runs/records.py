"""Recorded runs: what `results/` keeps of a run on pictures, small enough for a repository and free of its data.

    settings.json                  of the run, with hardware, wall time, pictures seen and the names of classes
    metrics.json                   what was measured, of the weights as they are stored here; the names of the probe's
                                   rows, and how well it reads each attribute; of rendered data R^2 of each factor
    metrics.jsonl                  the run's log
    encoder.safetensors, decoder.safetensors
                                   packed weights, see `storage`
    codes.safetensors              of held-out pictures: mean (Z,) and covariance (Z, Z) of q(z), 500 codes with their
                                   labels, and the weights of the linear probe, and of linear readings of factors
    judge.safetensors              of conditional runs with attributes: the packed `AttributeJudge`; what it found, for
                                   all attributes and for each, is in metrics.json; y of the paper's grid is in codes
    samples.png, reconstructions.png, interpolations.png, cycle.png, learning.png
    grid.png, switches.png, switched.png
                                   of conditional runs: the paper's 4 x 12 attributes of one z; attributes switched one
                                   by one, of codes from the prior and of encoded held-out pictures
    samples-epoch-001.png          some samples from the same codes after 1, 10 and 100 epochs, and after the last

Every picture here is the model's own, no original is kept: a reconstruction stands alone, and `cycle.png` starts from
codes. The data's licence may forbid more.
"""

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from .. import reading, runs, storage
from ..data import Dataset
from ..data.conditions import COLUMNS, NAMED, ROWS, paper_grid, switched
from ..errors import AlikitError, unwritten
from ..evaluation import METRICS, AttributeJudge, attributes, codes, measured, probe, train_judge
from ..evaluation.inference import told
from ..evaluation.factors import scales
from ..evaluation.measured import named, same_chance
from ..models import Game
from ..recipes import RECIPES

SWITCHED = 4  # codes, and pictures, whose attributes are switched one by one
SHORT = {"Mouth_Slightly_Open": "mouth open", "Receding_Hairline": "receding", "Wearing_Hat": "hat"}  # above a column
MOST_CODES = 2**24  # bytes of a record's codes and probes; a repository's take some 300,000
CODES = 500  # held-out codes that are kept with their labels
# Probes are made by `described`, and what is there as asked is looked for once the judge is there.
MEASURED = tuple(name for name in METRICS if name not in ("probe", "attributes", "svm"))


@dataclass(frozen=True)
class Recorded:
    """A recorded run, opened: the model (it samples, encodes and reconstructs, and has no discriminator), its settings,
    what was measured, its log, what `codes.safetensors` keeps, by name, and of conditional runs their judge."""

    model: Game
    settings: dict
    metrics: dict
    log: list[dict]
    codes: dict[str, Tensor]
    judge: AttributeJudge | None = None


def recorded(folder: str | Path) -> Recorded:
    """Opens a folder that `record` made. AlikitError, in one line, where something in it is missing or damaged."""
    folder = Path(folder)
    settings = runs.settings(folder)
    for name in ("decoder.safetensors", "codes.safetensors"):
        if not (folder / name).is_file():
            raise AlikitError(f"{folder / name} is missing: make a recorded run with alikit record")
    model = runs.load_model(folder)
    try:
        metrics = measured_of(folder)
        codes = storage.whole(storage.inflated(storage.read(folder / "codes.safetensors", MOST_CODES)))
        if not _are_codes(codes, model.z_dim):
            raise SafetensorError("not what record keeps")
    except OSError as error:
        raise AlikitError(f"{error.filename or folder} is missing: make a recorded run with alikit record") from None
    except (ValueError, SafetensorError):
        raise AlikitError(f"metrics or codes in {folder} are damaged: take the recorded run anew") from None
    judge = None
    if (folder / "judge.safetensors").is_file():
        if not settings.get("number_of_attributes") or not _can_be_seen(settings["x_shape"]):
            raise AlikitError(f"{folder} has a judge, and no attributes of pictures: take the recorded run anew")
        judge = AttributeJudge(settings["number_of_attributes"], settings["x_shape"][1]).eval()
        storage.from_file(judge, folder / "judge.safetensors")
    return Recorded(model, settings, metrics, runs.metrics(folder), codes, judge)


def measured_of(folder: Path) -> dict:
    """The metrics.json of a record. OSError where it cannot be read, ValueError where it is damaged."""
    found = reading.parsed(reading.content(folder / "metrics.json"))
    if not isinstance(found, dict):
        raise ValueError("no metrics by name")
    return found


def _are_codes(kept: dict[str, Tensor], z_dim: int) -> bool:
    """Whether the file keeps what every record's does, all of it finite."""
    shapes = {"q_mean": (z_dim,), "q_covariance": (z_dim, z_dim)}
    return (
        all(name in kept and kept[name].shape == shape for name, shape in shapes.items())
        and "codes" in kept
        and kept["codes"].shape[1:] == (z_dim,)
        and all(not tensor.is_complex() and bool(tensor.isfinite().all()) for tensor in kept.values())
    )


def described(model: Game, train: Dataset, held_out: Dataset) -> Recorded:
    """A model just trained as if it were recorded, with codes and probes of its data; without settings or a log."""
    some = held_out.some(CODES)
    with same_chance():
        q = codes(model, held_out)
    kept = {
        "q_mean": q.mean,
        "q_covariance": q.covariance,
        "codes": model.encode(some.floats().to(model.device), sample=False, y=told(model, some)).cpu(),
    }
    found = {}
    if held_out.labels is not None:
        # One fit, for its numbers and for its weights; with the chance that `measured` gives it.
        with same_chance():
            read = probe(model, train, held_out)
        found |= named("probe", read.numbers())
        found |= {"probe_names": list(read.names), "probe_attributes": read.attributes}
        kept |= {"labels": some.labels, "probe_weight": read.weight, "probe_bias": read.bias}
    if model.attributes and set(NAMED) <= set(train.classes):
        kept["grid"] = paper_grid(train)
    if held_out.factors:
        known = scales(model, train, held_out)
        found |= {"factor_r2": known.r2}
        kept |= {"factor_weight": known.weight, "factor_bias": known.bias}
    return Recorded(model, {}, found, [], kept)


def record(run: Path, out: Path, parts: tuple[Dataset, Dataset], hardware: str, data_name: str) -> dict:
    """Writes what is to be kept of a finished run to the folder `out`, whole or not at all; returns the metrics. An
    older record there is replaced.

    parts      the run's training and held-out data
    hardware   what the run was made on, in words
    data_name  what the data is to be called beside numbers

    AlikitError for a run that is not finished or not on colour pictures, for other data than it was trained on, and
    where `out` holds something else.
    """
    restore(out)
    settings = runs.settings(run)
    if RECIPES[settings["recipe"]].encoder is None or not _can_be_seen(settings["x_shape"]):
        raise AlikitError(f"{run} is no run on pictures in colour with an encoder: keep its folder as it is")
    if (step := runs.checkpoint(run)["step"]) < settings["steps"]:
        raise AlikitError(f"{run} is at step {step} of {settings['steps']}: finish it with: alikit resume {run}")
    runs.check_same(settings, parts)
    is_record = (out / "decoder.safetensors").is_file() and (out / "metrics.json").is_file()
    if out.exists() and not is_record:
        raise AlikitError(f"{out} is there already and is no record: choose another --out")
    with _in_place_of(out) as stage:
        return _record(run, stage, out, settings, step, parts, {"data_name": data_name, "hardware": hardware})


def restore(out: Path) -> None:
    """Brings the record `out` back where a process was killed just when it had set it aside for a new one."""
    if (before := _aside(out) / "before").is_dir() and not out.exists():
        before.rename(out)


def _aside(out: Path) -> Path:
    """Where a record is made, beside its place. No folder of its own: what looks for records does not look deeper."""
    return out.parent / f".{out.name}.partial"


@contextmanager
def _in_place_of(out: Path) -> Iterator[Path]:
    """A new folder, to be filled, that takes the place of the record `out` at the end, or vanishes on an error."""
    aside = _aside(out)
    with runs.alone(aside, out):
        shutil.rmtree(aside / "new", ignore_errors=True)  # of a process that was killed
        try:
            (aside / "new").mkdir()
            yield aside / "new"
            if out.exists():
                out.rename(aside / "before")
            (aside / "new").rename(out)
        except OSError as error:
            raise unwritten(error, out, "or choose another --out") from None
        finally:
            restore(out)
            for name in ("new", "before"):
                shutil.rmtree(aside / name, ignore_errors=True)


def _can_be_seen(x_shape: list[int]) -> bool:
    """Whether the feature network has eyes for such examples."""
    return len(x_shape) == 3 and x_shape[0] == 3 and x_shape[1] >= 32


def _record(run: Path, stage: Path, out: Path, settings: dict, step: int, parts: tuple, facts: dict) -> dict:
    train, held_out = parts
    trained, log = runs.load_model(run), [line for line in runs.metrics(run) if line["step"] <= step]
    for name, network in (("encoder", trained.encoder), ("decoder", trained.decoder)):
        _write(stage / f"{name}.safetensors", storage.to_file(network))
    source = runs.source(run, settings)
    places = {"data": source, "data_from_run": runs.placed(source, out), "decoder": settings["decoder"]}
    seconds = max((line.get("seconds", 0) for line in log), default=0)
    runs.write_settings(
        stage,
        settings
        | {name: place and _without_folders(place) for name, place in places.items()}
        | {"command": _command_without_folders(settings.get("command", ""))}
        | {**facts, "classes": held_out.classes, "hours": round(seconds / 3600, 2)}
        | {"images_seen": step * settings["batch_size"]},
    )
    model = runs.load_model(stage).to("cuda" if torch.cuda.is_available() else "cpu")
    found = measured(model, *parts, metrics=MEASURED)
    if trained.classes:  # of the run's own weights: the discriminator, which classifies, is not kept
        found |= measured(trained, *parts, metrics=("classification",))
    kept = described(model, train, held_out)
    found |= kept.metrics
    if model.attributes and held_out.labels.ndim == 2:
        found |= _switches(model, train, held_out, stage)
        _draw_switches(model, held_out, kept.codes.get("grid"), stage)
    _write(stage / "codes.safetensors", to_bytes(storage.deflated(storage.halved(kept.codes))))
    epoch = len(train) // settings["batch_size"]
    _draw(model, held_out, log, epoch, stage)
    at = {epochs: epochs * epoch for epochs in (1, 10, 100) if epochs * epoch <= step} | {step // epoch: step}
    for epochs, drawn_at in at.items():
        if (file := run / f"samples-{drawn_at:07d}.png").is_file():
            with Image.open(file) as picture:  # a third of it: enough to compare, and small
                some = picture.crop((0, 0, picture.width, 2 + (picture.height - 2) // 3))
            _save(some.convert("RGB"), stage / f"samples-epoch-{epochs:03d}.png")
    _write(stage / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in log).encode())
    _write(stage / "metrics.json", json.dumps(found, indent=1).encode())
    return found


def _command_without_folders(command: str) -> str:
    """Word by word; a run that went further has several commands, with a ; between."""
    words = shlex.shlex(command, posix=True, punctuation_chars=";")
    words.whitespace_split, words.commenters = True, ""
    return " ".join(word if word == ";" else shlex.quote(_without_folders(word)) for word in words).replace(" ;", ";")


def _without_folders(word: str) -> str:
    """Of a path that begins at the root of somebody's file system, the last name: the rest is nobody's business."""
    if Path(word).is_absolute() or word.startswith("~"):
        return Path(word).name
    for sign in ("=", ":"):  # --out=PATH, folder:PATH
        before, found, path = word.partition(sign)
        if found and (rest := _without_folders(path)) != path:
            return before + sign + rest
    return word


def _write(file: Path, content: bytes) -> None:
    runs.write_whole(file, lambda place: place.write_bytes(content))


def _draw(model: Game, held_out: Dataset, log: list[dict], epoch: int, out: Path) -> None:
    """The model's own pictures, from the same chance each time."""
    from ..figures import grid, learning_figure  # matplotlib takes a while to import: only where pictures are drawn

    some = held_out.some(60)
    y, x = told(model, some), some.floats()[:30]
    pairs = min(6, len(x) // 2)
    zoom = max(1, 64 // x.shape[-1])

    def of(index: slice) -> Tensor | None:
        return y if y is None else y[index].float()

    left, right, these = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2), slice(len(x))
    with same_chance():
        z = model.prior(10)
        paths = model.interpolate(x[left], x[right], steps=10, y_from=of(left), y_to=of(right))
        cycle = [model.decode(z, y=of(slice(10)))]
        for _ in range(3):
            cycle.append(model.reconstruct(cycle[-1], sample=False, y=of(slice(10))))
        sheets = {
            "samples": model.sample(len(some), y),
            "reconstructions": torch.cat(
                [model.reconstruct(x, sample=False, y=of(these)), model.reconstruct(x, y=of(these))]
            ),
            "interpolations": paths.flatten(0, 1),
            "cycle": torch.cat(cycle),
        }
    for name, pictures in sheets.items():
        _save(grid(pictures, columns=10, zoom=zoom), out / f"{name}.png")
    _save(learning_figure(log, epoch), out / "learning.png")


def _switches(model: Game, train: Dataset, held_out: Dataset, out: Path) -> dict:
    """Metrics of whether what a conditional model was asked for is there, with the judge that found them."""
    judge = train_judge(train, device=model.device)
    with same_chance():
        found = attributes(model, train, held_out, judge)
    _write(out / "judge.safetensors", storage.to_file(judge, limit=0))
    whole = {name: value for name, value in found.items() if isinstance(value, float)}
    return named("attributes", whole) | {"attributes_of": found["of"], "attributes_drags": found["drags"]}


def _draw_switches(model: Game, held_out: Dataset, grid_of_y: Tensor | None, out: Path) -> None:
    """One attribute after the other switched, of codes from the prior and of held-out pictures, and the paper's grid of
    one z: the first that chance gives, no chosen one."""
    from ..figures import strips

    some, names = held_out.some(SWITCHED), held_out.classes
    y = some.conditions()
    with same_chance():
        z = model.prior(len(some))
        z_hat = model.encode(some.floats().to(model.device), sample=False, y=y)
    zoom = max(2, 96 // held_out.shape[-1])
    shown = [name for name in NAMED if name in names] or list(names[:14])
    columns = ["as it is", *(SHORT.get(name, name.replace("_", " ").lower()) for name in shown)]
    for name, of, codes_of in (("switches", "code", z), ("switched", "picture", z_hat)):
        rows = {}
        for number, (code, own) in enumerate(zip(codes_of, y, strict=True), start=1):
            flipped = [switched(own, [("-" if own[names.index(a)] else "") + a], names) for a in shown]
            ys = torch.stack([own, *flipped])
            rows[f"{of} {number}"] = model.decode(code.expand(len(ys), -1), y=ys)
        _save(strips(rows, columns, zoom), out / f"{name}.png")
    if grid_of_y is not None:
        with same_chance():
            z = model.prior(1)
        size = grid_of_y.shape[:2]
        drawn = model.decode(z.expand(size.numel(), -1), y=grid_of_y.flatten(0, 1)).unflatten(0, size)
        _save(strips(dict(zip(ROWS, drawn, strict=True)), list(COLUMNS), zoom), out / "grid.png")


def _save(picture: Image.Image, file: Path) -> None:
    """A record's pictures are for looking at, and many: they are kept in few colours."""
    from ..figures import few_colours

    runs.save_picture(few_colours(picture), file)
