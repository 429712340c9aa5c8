"""The run folder: what a training run leaves behind, and how it is opened again.

    settings.json                recipe, game, data, seed, steps, command, versions: enough to do it again
    metrics.jsonl                a line a report: step, losses, images per second, and of pictures what `awake` finds;
                                 the last line the evaluation
    weights.safetensors          the model: `Trainer.result`
    checkpoint.pt                what `alikit resume` goes on from
    samples-NNNNNNN.png          samples, from the same z each time; reconstructions-NNNNNNN.png beside them

Files are written whole or not at all, and nothing that is loaded here can run code.
"""

import errno
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from .. import distributed, reading, storage
from ..data import Dataset
from ..errors import AlikitError, expanded, unwritten
from ..models import Game
from ..recipes import RECIPES
from ..training import Trainer
from .settings import FORMAT, MOST_STEPS, Facts, checked, described, recipe_of, wrote

LOCK = ".lock"  # held by the process that works in the folder
OF_CHECKPOINTS = 2  # format; 1, which did not say so, had an optimiser for each player


def trainer(settings: dict, data: Dataset, device: str | None = None) -> Trainer:
    """The model of the settings, untrained or with the weights of the run that it begins from, and its trainer, both by
    their seed; on `device`, see `distributed.device`."""
    recipe, to = recipe_of(settings), distributed.device(device)
    trained = load_model(settings["decoder"]) if settings["decoder"] else None
    begun = load_model(settings["from_run"]) if settings.get("from_run") else None
    torch.manual_seed(settings["seed"])
    model = recipe.build(data.shape, data.mean(), trained, *label_sizes(data))
    if begun:
        _begin(model, begun, settings["from_run"], data)
    return recipe.trainer(distributed.synchronise(model.to(to)), data, settings["seed"])


def _begin(model: Game, begun: Game, name: str, data: Dataset) -> None:
    """Gives the model's networks the weights of those in `begun`, which run `name` trained, whose shapes are theirs."""
    log, known = logging.getLogger(__name__), read_settings(name)
    if (shape := tuple(known["x_shape"])) != data.shape:
        theirs, ours = (" x ".join(map(str, sides)) for sides in (shape, data.shape))
        way = f"begin from a run on such data, or choose data of {theirs}"
        raise AlikitError(f"{name} is of examples of {theirs}, and {data.name} holds {ours}: {way}")
    taken, fresh = [], []
    for part, network in model.named_children():
        other = getattr(begun, part, None)
        own, kept = network.state_dict(), (getattr(other, "conditional", other) or nn.Module()).state_dict()
        fits = {key: tensor.shape for key, tensor in own.items()} == {key: t.shape for key, t in kept.items()}
        (taken if fits else fresh).append(part)
        if fits:
            network.load_state_dict(kept)
    if not taken:
        raise AlikitError(
            f"no network of {name} has the layers of this recipe's: begin from a run of the same networks"
        )
    conditions = known.get("attributes") or known.get("classes")
    if (model.attributes or model.classes) and conditions and [*conditions] != [*data.classes]:
        log.warning("%s was trained with other names, or in another order: classes mean something else now", name)
    if fresh:
        log.warning("from %s come the weights of: %s; new ones are in: %s", name, ", ".join(taken), ", ".join(fresh))


def label_sizes(data: Dataset) -> tuple[int | None, int | None]:
    """K, of data whose examples have one class each, and A, the numbers of a condition: attributes, or K."""
    if data.labels is None:
        return None, None
    if data.labels.ndim == 2:
        return None, data.labels.shape[1]
    classes = len(data.classes) or 1 + int(data.labels.max())
    return classes, classes


def placed(source: str, folder: Path) -> str:
    """A data source as a run folder keeps it: a relative path is seen from the run folder, so that the run finds its
    data from any working directory, and both may move together."""
    return _with_path(source, lambda path: os.path.relpath(path, folder))


def source(folder: Path, settings: dict) -> str:
    """The data source of a run's settings, for `load`."""
    kept = settings.get("data_from_run")
    return _with_path(kept, lambda path: os.path.relpath(folder / path)) if kept else settings["data"]


def _with_path(source: str, change: Callable[[str], str]) -> str:
    kind, _, path = source.partition(":")
    if kind == "torchvision":  # NAME, or NAME:ROOT
        name, _, path = path.partition(":")
        kind = f"{kind}:{name}"
    is_relative = path and kind != "stand-in" and not expanded(path).is_absolute()
    return f"{kind}:{change(path)}" if is_relative else source


def digest(parts: tuple[Dataset, Dataset]) -> list[int]:
    """The number of examples of both parts, a checksum of them, and one of what is known of each: labels, the names of
    classes, and factors. The same as long as the data is."""
    examples = known = 0
    for part in parts:
        examples = zlib.crc32(_content(part.x), examples)
        facts = {"": part.labels, **part.factors}
        names = [[*part.classes], {name: values is not None and [*values.shape] for name, values in facts.items()}]
        known = zlib.crc32(json.dumps(names).encode(), known)
        for values in facts.values():
            known = known if values is None else zlib.crc32(_content(values), known)
    return [*map(len, parts), examples, known]


def _content(values: Tensor) -> np.ndarray:
    return values.cpu().contiguous().numpy()


def check_same(settings: dict, parts: tuple[Dataset, Dataset]) -> None:
    """AlikitError where the data is not what the run began with. Earlier runs know nothing of its labels."""
    known = settings.get("digest")
    if known is None or known == (found := digest(parts))[: len(known)]:
        return
    what = "is not" if known[:3] != found[:3] else "has other labels, classes or factors than"
    raise AlikitError(f"{parts[0].name} {what} what this run began with: name that data, or train anew")


def check_new(folder: Path) -> None:
    """AlikitError for a folder that holds something other than what a process killed at its very start left there."""
    if folder.exists() and not (folder.is_dir() and all(file.name.startswith(".") for file in folder.iterdir())):
        go_on = f", or go on with: alikit resume {folder}" if (folder / "settings.json").is_file() else ""
        raise AlikitError(f"{folder} is there already: choose another folder{go_on}")


@contextmanager
def alone(folder: Path, at: Path | None = None) -> Iterator[None]:
    """No other process works in the folder during the block. It is made if it is missing, and removed if it stays
    empty. The system ends the lock with its process. Of several processes that train together, the first holds it.

    AlikitError, naming `at` (by default the folder), where another process is at work there or nothing can be written.
    """
    from filelock import FileLock, Timeout  # slow to import, and needed only for writing

    if distributed.rank():
        yield
        return
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise AlikitError(f"another process is at work in {at or folder}: wait until it is done, or stop it") from None
    except OSError as error:
        raise unwritten(error, at or folder, "or name another folder") from None
    try:
        yield
    finally:
        with suppress(OSError):  # the folder may be gone, and is seldom empty
            (folder / LOCK).unlink()
            folder.rmdir()
        lock.release()


def create(folder: Path, settings: dict) -> None:
    """Makes the run folder and writes its settings."""
    check_new(folder)
    tidy(folder)
    write_settings(folder, settings)


def tidy(folder: Path) -> None:
    """Removes files that a killed process left half-written."""
    for file in folder.glob(".*.partial"):
        if file.is_file():
            file.unlink()


def is_untouched(folder: Path) -> bool:
    """Whether a run was stopped before its first checkpoint was whole, so that it can only begin."""
    return not any((folder / name).exists() for name in ("checkpoint.pt", "weights.safetensors", "decoder.safetensors"))


def write_settings(folder: Path, settings: dict) -> None:
    """Writes the settings, in place of older ones. AlikitError for settings that could not be read again."""
    text = json.dumps({"format": FORMAT, **settings}, indent=1)
    known = json.loads(text)
    try:
        Facts.model_validate(known)
        recipe_of(known)
        folder.mkdir(parents=True, exist_ok=True)
    except ValidationError as error:
        raise AlikitError(f"a run cannot be kept so, for its {described(error)}: choose others") from None
    except OSError as error:
        raise unwritten(error, folder, "or name another folder") from None
    write_whole(folder / "settings.json", lambda file: file.write_text(text))


def read_settings(folder: str | Path) -> dict:
    """The settings of a run folder by today's names, each of the type and in the range that it must have."""
    file = Path(folder) / "settings.json"
    if not file.exists():
        raise AlikitError(f"{folder} is no run folder (it has no settings.json): make one with alikit train")
    with reading.boundary(file, "put it right, or train again into a new folder"):
        return checked(file, reading.parsed(reading.content(file)))


def log(folder: Path, line: dict) -> None:
    """Appends one line to the metrics log."""
    file = folder / "metrics.jsonl"
    try:
        if file.is_symlink():  # a stranger's run folder may have one there, to anywhere
            raise OSError(errno.ELOOP, "a link")
        with open(file, "a") as log:
            log.write(json.dumps(line) + "\n")
    except OSError as error:
        raise _unwritten(error, file) from None


def metrics(folder: Path) -> list[dict]:
    """The metrics log of a run folder, one dict a line; a last line that was cut off by a kill is left out."""
    file, found = folder / "metrics.jsonl", []
    if not file.exists():
        return found
    with reading.boundary(file, "move it elsewhere"):
        for number, text in enumerate(reading.lines(file), 1):
            try:
                line = reading.parsed(text, nan=True)  # as of an encoder that gives NaN
                are_numbers = all(value is None or type(value) in (int, float) for value in line.values())
                in_range = all(
                    0 <= line.get(name, 0) <= MOST_STEPS for name in ("step", "seconds", "processor_seconds")
                )
                if type(line["step"]) is not int or not are_numbers or not in_range:
                    raise ValueError("no report")
            except (ValueError, TypeError, LookupError, AttributeError):
                if text.endswith(b"\n"):
                    raise AlikitError(f"{file} is damaged in line {number}: mend or remove that line") from None
            else:
                found.append(line)
    return found


def rewind_log(folder: Path, step: int) -> None:
    """Removes from the log what was reported after `step`, evaluations too: it will be reported again."""
    if (folder / "metrics.jsonl").is_file():
        kept = [line for line in metrics(folder) if line["step"] <= step and "images_per_second" in line]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(folder / "metrics.jsonl", lambda file: file.write_text(text))


def save(folder: Path, trainer: Trainer) -> None:
    """Writes the weights of the trainer's result and a checkpoint.

    Whenever a kill comes, the checkpoint is no newer than the weights, so that a resumed run writes them again. Only
    the first pair begins with the checkpoint: from weights alone a run can neither go on nor begin.
    """
    state = io.BytesIO()
    torch.save({"format": OF_CHECKPOINTS, **trainer.state()}, state)  # straight to a full disk it fails in other ways
    parts = [
        lambda: save_weights(folder, trainer.result.state_dict()),
        lambda: write_whole(folder / "checkpoint.pt", lambda file: file.write_bytes(state.getbuffer())),
    ]
    for write in reversed(parts) if is_untouched(folder) else parts:
        write()


def save_weights(folder: Path, state: dict) -> None:
    """Writes a model's `state_dict()` as its weights, those of a layer that is used twice under both names."""
    weights = to_bytes({name: tensor.cpu().contiguous().clone() for name, tensor in state.items()})
    write_whole(folder / "weights.safetensors", lambda file: file.write_bytes(weights))


def checkpoint(folder: Path) -> dict:
    """The saved `Trainer.state()`; only tensors and plain values are accepted from the file."""
    file = folder / "checkpoint.pt"
    with reading.boundary(file, "train again into a new folder; what needs only the weights goes on without it"):
        state = storage.read_archive(file)
        number = state.pop("format", OF_CHECKPOINTS if "optimiser" in state else 1)
        if number != OF_CHECKPOINTS:
            reading.check_format(file, number, OF_CHECKPOINTS, wrote(read_settings(folder)))
        if type(state["step"]) is not int or not 0 <= state["step"] <= MOST_STEPS:
            raise ValueError("no step")
        return {"average": None, "random_cuda": [], **state, "bf16": bool(state.get("bf16"))}  # earlier ones lack these


def go_on(folder: Path, trainer: Trainer, state: dict) -> None:
    """Puts the trainer where the run was when the checkpoint was written."""
    try:
        trainer.resume(state)
    except (ValueError, LookupError, RuntimeError, TypeError, AttributeError):
        raise AlikitError(
            f"the checkpoint in {folder} is damaged or not of this run: train again into a new folder"
        ) from None


def load_model(folder: str | Path, device: str | None = "cpu") -> Game:
    """The trained model of a run folder, in evaluation mode, on `device`, see `distributed.device`. Without a
    discriminator among its weights, as in recorded runs, it is a `Game`. `decoder_from_run` in the settings says which
    other run, seen from this one, has its decoder."""
    folder, trained, to = Path(folder), None, distributed.device(device)
    known = read_settings(folder)
    if known.get("decoder_from_run"):
        other = folder / known["decoder_from_run"]
        if read_settings(other).get("decoder_from_run"):  # two could lend to each other
            raise AlikitError(f"{other} has no decoder of its own to lend to {folder}: take the recorded runs anew")
        trained = load_model(other)
    sizes = known.get("number_of_classes"), known.get("number_of_attributes")
    model = recipe_of(known).build(tuple(known["x_shape"]), None, trained, *sizes)
    without_discriminator = Game(model.decoder, model.z_dim, model.encoder)
    without_discriminator.x_shape = model.x_shape
    if (folder / "decoder.safetensors").is_file():
        for name in ("encoder", "decoder"):
            if (network := getattr(model, name)) is not None:
                storage.from_file(network, folder / f"{name}.safetensors")
        return without_discriminator.eval().to(to)
    file = folder / "weights.safetensors"
    if not file.exists():
        if (folder / "metrics.json").is_file():
            raise AlikitError(f"{folder} is a record without weights: train the run anew, by its command")
        raise AlikitError(f"{folder} holds no weights yet: go on with: alikit resume {folder}")
    way = f"put weights of recipe {known['recipe']} there, or train again"
    if (folder / "checkpoint.pt").is_file():
        way = f"move it elsewhere, and the checkpoint gives it back with: alikit resume {folder}"
    with reading.boundary(file, way):
        weights = storage.read(file, model)
        if trained:
            weights |= {f"decoder.{name}": tensor for name, tensor in model.decoder.state_dict().items()}
        has_discriminator = any(name.startswith("discriminator.") for name in weights)
        if RECIPES[known["recipe"]].has_discriminator and not has_discriminator:
            model = without_discriminator
        storage.fill(model, weights)
    return model.eval().to(to)


def save_picture(picture: Image.Image, file: Path) -> None:
    """Writes a picture as PNG without any loss; one that is all grey as grey, in a third of the bytes."""
    if file.suffix.lower() not in ("", ".png"):
        raise AlikitError(f"cannot write {file}: pictures are PNG, so name it {file.with_suffix('.png').name}")
    bands = picture.split()
    kept = bands[0] if all(band == bands[0] for band in bands) else picture
    write_whole(file, lambda place: kept.save(place, format="png"))


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Writes beside the file and moves it into place, so that a reader finds the old file or the new, never half.
    AlikitError where it cannot be written; the old file is then as it was."""
    partial = file.parent / f".{file.name}.{os.getpid()}.partial"
    try:
        if file.exists() and not file.is_file():  # a pipe or a device, which root could replace
            raise OSError(errno.EEXIST, "no regular file")
        write(partial)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())  # on the disk before the name is: a power cut may come between
        os.replace(partial, file)
    except OSError as error:
        raise _unwritten(error, file) from None
    finally:
        with suppress(OSError):
            partial.unlink()


def _unwritten(error: OSError, file: Path) -> AlikitError:
    folder = file.parent
    is_run = (folder / "settings.json").is_file() and not (folder / "decoder.safetensors").exists()
    return unwritten(error, file, f"then go on with: alikit resume {folder}" if is_run else "or name another place")
