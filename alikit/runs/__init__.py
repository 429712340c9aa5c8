"""The run folder: what a training run leaves behind, and how it is opened again.

    settings.json                recipe, data, seed, steps, command, versions: enough to do it again
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
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import save as to_bytes

from .. import distributed, formats, reading, storage
from ..data import Dataset
from ..errors import AlikitError, expanded, unwritten
from ..models import Game
from ..recipes import RECIPES
from ..training import Trainer
from .settings import FORMAT, MOST_STEPS, checked, described, recipe_of, validated, wrote

LOCK = ".lock"  # held by who works in the folder
MOST_SECONDS = 10**10  # of a run: some centuries
OF_CHECKPOINTS = 2  # 1, which did not say so, had an optimiser for each player


def trainer(settings: dict, data: Dataset) -> Trainer:
    """The untrained model of the settings with its trainer, both from their seed, on a GPU where there is one."""
    recipe = recipe_of(settings)
    trained = load_model(settings["decoder"]) if settings["decoder"] else None
    torch.manual_seed(settings["seed"])
    model = recipe.build(data.shape, data.mean(), trained, number_of_classes(data), number_of_attributes(data))
    model = distributed.synchronise(model.to("cuda" if torch.cuda.is_available() else "cpu"))
    return recipe.trainer(model, data, settings["seed"])


def number_of_classes(data: Dataset) -> int | None:
    """K, of data whose examples have one class each."""
    if data.labels is None or data.labels.ndim != 1:
        return None
    return len(data.classes) or 1 + int(data.labels.max())


def number_of_attributes(data: Dataset) -> int | None:
    """A, how many numbers tell a conditional model of one example; K, of data with classes."""
    if data.labels is None:
        return None
    return data.labels.shape[1] if data.labels.ndim == 2 else number_of_classes(data)


def placed(source: str, folder: Path) -> str:
    """A data source as a run folder keeps it: a relative path is told from the run folder, so that the run finds its
    data from everywhere, and both may move together."""
    kind, _, path = source.partition(":")
    if not _is_relative(kind, path):
        return source
    return f"{kind}:{os.path.relpath(os.path.abspath(path), os.path.abspath(folder))}"


def source(folder: Path, settings: dict) -> str:
    """The data source of a run's settings, for `load`."""
    kind, _, path = settings.get("data_from_run", "").partition(":")
    if not _is_relative(kind, path):
        return settings.get("data_from_run") or settings["data"]
    return f"{kind}:{os.path.relpath(folder / path)}"


def _is_relative(kind: str, path: str) -> bool:
    return bool(path) and kind != "stand-in" and not expanded(path).is_absolute()


def digest(parts: tuple[Dataset, Dataset]) -> list[int]:
    """What tells a run whether its data is still the same: the number of examples of both parts, and a checksum."""
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part.x.cpu().contiguous().numpy(), checksum)
    return [*map(len, parts), checksum]


def check_same(settings: dict, parts: tuple[Dataset, Dataset]) -> None:
    """Refuses data that is not what the run began with: it would go on, but as another run."""
    if settings.get("digest") not in (None, digest(parts)):
        before, now = settings["digest"], digest(parts)
        what = (
            f"{before[0]} + {before[1]} examples then, {now[0]} + {now[1]} now" if before[:2] != now[:2] else "changed"
        )
        raise AlikitError(
            f"{parts[0].name} is not what this run began with ({what}): name that by --data, or train anew"
        )


def check_new(folder: Path) -> None:
    """Refuses a folder that holds something or that could not be written, before any work is done for it."""
    if folder.exists() and (not folder.is_dir() or not all(map(_is_a_trace, folder.iterdir()))):
        go_on = f", or go on with: alikit resume {folder}" if (folder / "settings.json").is_file() else ""
        raise AlikitError(f"{folder} is there already: choose another --out{go_on}")
    parent = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise AlikitError(f"cannot write to {parent}: choose another --out")


def _is_a_trace(file: Path) -> bool:
    """Whether the file is what a process leaves that was killed before its run had settings."""
    return file.name == LOCK or (file.name.startswith(".") and file.name.endswith(".partial"))


@contextmanager
def alone(folder: Path, at: Path | None = None) -> Iterator[None]:
    """Nobody else works in the folder meanwhile, which is made if it is missing, and removed if nothing came into it.
    The lock is the system's: it goes with the process that holds it, however that ends. Of several processes that
    train together, the first one holds it. AlikitError, which names what is worked `at` (by default the folder), where
    somebody else is at work there, or nobody can be."""
    from filelock import FileLock, Timeout  # takes a moment to import, and is wanted only where something is written

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
        with suppress(OSError):  # the folder may be gone, and seldom is it empty
            (folder / LOCK).unlink()
            folder.rmdir()
        lock.release()


def create(folder: Path, settings: dict) -> None:
    """Makes the run folder and writes its settings."""
    check_new(folder)
    tidy(folder)
    write_settings(folder, {"format": FORMAT, **settings})


def write_settings(folder: Path, settings: dict) -> None:
    """Writes the settings, over those that may be there. AlikitError for what could not be read again."""
    text = json.dumps(settings, indent=1)
    try:
        validated(json.loads(text))
    except ValidationError as error:
        raise AlikitError(f"a run cannot be kept so, for its {described(error)}: choose others") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "settings.json", lambda file: file.write_text(text))
    except OSError as error:
        raise unwritten(error, folder / "settings.json", "or name another folder") from None


def settings(folder: Path) -> dict:
    """The settings of a run folder, by today's names, each of them of the type and in the range that it must have."""
    if not (folder / "settings.json").exists():
        raise AlikitError(f"{folder} is no run folder (it has no settings.json): make one with alikit train")
    file = folder / "settings.json"
    with reading.boundary(file, "put it right, or train again into a new folder"):
        return checked(file, reading.parsed(reading.content(file)))


def _no_link(file: str, flags: int) -> int:
    """Opens a file where it is: a stranger's run folder may have a link in its place, to anywhere."""
    return os.open(file, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)  # which Windows has not


def log(folder: Path, line: dict) -> None:
    """Appends one line to the metrics log."""
    try:
        with open(folder / "metrics.jsonl", "a", opener=_no_link) as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise _stopped_by(error, folder / "metrics.jsonl") from None


def metrics(folder: Path) -> list[dict]:
    """The metrics log of a run folder, one dict a line; a last line that was cut off is left out."""
    file, found = folder / "metrics.jsonl", []
    if not file.exists():
        return found
    with reading.boundary(file, "move it elsewhere"):
        for number, text in enumerate(reading.lines(file), 1):
            try:
                line = reading.parsed(text, nan=True)  # of an encoder that gives none
            except ValueError:
                line = None
                if not text.endswith(b"\n"):  # so a killed process leaves it, and only so
                    break
            if not _is_report(line):
                raise AlikitError(f"{file} is damaged in line {number}: mend or remove that line")
            found.append(line)
    return found


def _is_report(line: object) -> bool:
    """Whether a line of the log is one: numbers by name, or null for those that could not be had; and the step."""
    if not isinstance(line, dict) or not all(value is None or type(value) in (int, float) for value in line.values()):
        return False
    seconds = line.get("seconds", 0)
    known = type(line.get("step")) is int and 0 <= line["step"] <= MOST_STEPS
    return known and seconds is not None and 0 <= seconds <= MOST_SECONDS


def rewind_log(folder: Path, step: int) -> None:
    """Takes what was reported after `step` out of the log, evaluations too: it will be reported again."""
    if not (folder / "metrics.jsonl").is_file():
        return
    kept = [line for line in metrics(folder) if line["step"] <= step and "images_per_second" in line]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    write_whole(folder / "metrics.jsonl", lambda file: file.write_text(text))


def save(folder: Path, trainer: Trainer) -> None:
    """Writes the weights of the trainer's result and a checkpoint.

    Whenever a kill comes, the checkpoint is no newer than the weights, so that going on from it writes them anew. Only
    of the first pair it comes first: weights alone could neither be gone on from nor begun again.
    """
    state = io.BytesIO()
    torch.save({"format": OF_CHECKPOINTS, **trainer.state()}, state)  # to a full disk it would fail in a way of its own
    parts = [
        lambda: save_weights(folder, trainer.result.state_dict()),
        lambda: write_whole(folder / "checkpoint.pt", lambda file: file.write_bytes(state.getbuffer())),
    ]
    if is_untouched(folder):
        parts.reverse()
    try:
        for write in parts:
            write()
    except OSError as error:
        raise _stopped_by(error, Path(error.filename)) from None


def _stopped_by(error: OSError, file: Path) -> AlikitError:
    return unwritten(error, file, f"then go on with: alikit resume {file.parent}")


def save_weights(folder: Path, state: dict) -> None:
    """Writes a model's `state_dict()` as its weights."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    write_whole(folder / "weights.safetensors", lambda file: file.write_bytes(to_bytes(weights)))


def is_untouched(folder: Path) -> bool:
    """Whether a run was stopped before its first checkpoint was whole, so that it can only begin."""
    return not any((folder / name).exists() for name in ("checkpoint.pt", "weights.safetensors", "decoder.safetensors"))


def tidy(folder: Path) -> None:
    """Removes what a killed process left half-written."""
    for file in folder.glob(".*.partial"):
        if file.is_file():
            file.unlink()


def checkpoint(folder: Path) -> dict:
    """The saved `Trainer.state()`; only tensors and plain values are accepted from the file."""
    file = folder / "checkpoint.pt"
    with reading.boundary(file, "train again into a new folder; what needs only the weights goes on without it"):
        state = storage.read_archive(file)
        number = state.pop("format", OF_CHECKPOINTS if "optimiser" in state else 1)
        if number != OF_CHECKPOINTS:
            known = settings(folder)
            formats.check(file, number, OF_CHECKPOINTS, wrote(known), formats.again(known))
        if type(state["step"]) is not int or not 0 <= state["step"] <= MOST_STEPS:
            raise ValueError("no step")
    # What earlier versions had not yet.
    return {"average": None, "random_cuda": [], "bf16": False, **state}


def go_on(folder: Path, trainer: Trainer, state: dict) -> None:
    """Puts the trainer where the run was when the checkpoint was written."""
    try:
        trainer.resume(state)
        if not all(tensor.isfinite().all() for tensor in (state["average"] or {}).values()):
            raise ValueError("averaged weights that are not finite")
    except (ValueError, LookupError, RuntimeError, TypeError, AttributeError):
        raise AlikitError(
            f"the checkpoint in {folder} is damaged or not of this run: train again into a new folder"
        ) from None


def load_model(folder: str | Path) -> Game:
    """The trained model of a run folder, ready to sample and reconstruct. Where its discriminator was not kept, as in
    recorded runs, a `Game` without one. A decoder that another run has trained may be kept there alone: the settings
    then say where, as `decoder_from_run`, told from the folder."""
    folder = Path(folder)
    known = settings(folder)
    if (folder / "decoder.safetensors").is_file():
        return _load_parts(folder, known)
    trained = load_model(_where_the_decoder_is(folder, known)) if known.get("decoder_from_run") else None
    model = _untrained(known, trained)
    file = folder / "weights.safetensors"
    if not file.exists():
        if (folder / "metrics.json").is_file():
            raise AlikitError(f"{folder} is a record without weights: train the run anew, by its command")
        raise AlikitError(f"{folder} holds no weights yet: go on with: alikit resume {folder}")
    way = f"put weights of recipe {known['recipe']} there, or {formats.again(known)}"
    if (folder / "checkpoint.pt").is_file():
        way = f"move it elsewhere, and the checkpoint gives it back with: alikit resume {folder}"
    with reading.boundary(file, way):
        weights = storage.unpack(storage.read(file, model))
        if trained:
            weights |= {f"decoder.{name}": tensor for name, tensor in model.decoder.state_dict().items()}
        if (
            not any(name.startswith("discriminator.") for name in weights)
            and RECIPES[known["recipe"]].has_discriminator
        ):
            model = Game(model.decoder, model.z_dim, model.encoder)
        storage.fill(model, weights)
    return model.eval()


def _untrained(known: dict, trained: Game | None = None) -> Game:
    return recipe_of(known).build(
        tuple(known["x_shape"]),
        trained=trained,
        classes=known.get("number_of_classes"),
        attributes=known.get("number_of_attributes"),
    )


def _where_the_decoder_is(folder: Path, known: dict) -> Path:
    """The other run, which must have its decoder itself: runs that pointed at each other would be asked for ever."""
    other = folder / known["decoder_from_run"]
    if settings(other).get("decoder_from_run"):
        raise AlikitError(f"{other} has no decoder of its own to lend to {folder}: take the recorded runs anew")
    return other


def _load_parts(folder: Path, known: dict) -> Game:
    built = _untrained(known)
    for name, network in (("encoder", built.encoder), ("decoder", built.decoder)):
        if network is not None:
            storage.from_file(network, folder / f"{name}.safetensors")
    return Game(built.decoder, built.z_dim, built.encoder).eval()


def save_picture(picture: Image.Image, file: Path) -> None:
    """Writes a picture as PNG."""
    if file.suffix.lower() not in ("", ".png"):
        raise AlikitError(f"cannot write {file}: pictures are PNG, so name it {file.with_suffix('.png').name}")
    try:
        write_whole(file, lambda place: picture.save(place, format="png", optimize=picture.mode == "P"))
    except OSError as error:
        if (file.parent / "settings.json").is_file():
            raise _stopped_by(error, file) from None
        raise unwritten(error, file, "or choose another --out") from None


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Writes beside the file and moves it into place, so that a reader finds the old file or the new, never half.
    OSError, with the name of the file, where it cannot."""
    partial = file.parent / f".{file.name}.{os.getpid()}.partial"
    try:
        if os.path.lexists(file) and stat.S_IFMT(os.lstat(file).st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
            raise OSError(errno.EEXIST, "no regular file")  # a pipe or a device, and as root it could be replaced
        write(partial)
        with open(partial, "rb+") as written:
            os.fsync(written.fileno())  # on the disk before the name is: a power cut may come between
        os.replace(partial, file)
    except OSError as error:
        error.filename = str(file)
        raise
    finally:
        partial.unlink(missing_ok=True)
