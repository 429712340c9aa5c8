"""What a finished run shows: samples and reconstructions that are asked for, and the sheets of a record."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .. import runs
from ..data import Dataset
from ..data.conditions import COLUMNS, NAMED, ROWS, names_in, paper_grid, switched, usual
from ..errors import AlikitError
from ..evaluation.inference import conditions_of
from ..evaluation.measured import same_chance
from ..figures import beside, grid, picture, strips
from ..models import Game
from .running import judged
from .watching import enough_memory

SWITCHED = 4  # codes, and pictures, whose attributes are switched one by one
SHORT = {"Mouth_Slightly_Open": "mouth open", "Receding_Hairline": "receding", "Wearing_Hat": "hat"}  # above a column


def _asked(attributes: str, classes: tuple[str, ...]) -> list[str]:
    if not (names := names_in(attributes, classes)):
        raise AlikitError("--attributes names none: say Eyeglasses,-Young, or leave it out")
    return names


@enough_memory("ask for fewer pictures")
def samples(
    run: Path,
    out: Path,
    number: int,
    seed: int,
    attributes: str | None,
    of_grid: bool,
    data: str | None,
    device: str = "cpu",
) -> int:
    """Writes samples of a run's model to the picture `out`; returns how many. Those of a conditional model have the
    attributes of held-out examples; or the named ones, see `names_in`, and otherwise what most training examples have
    that share these; or `of_grid` the paper's 4 x 12, all of one z."""
    model, y = runs.load_model(run, device), None
    if attributes is not None and of_grid:
        raise AlikitError("--grid has attributes of its own: leave --attributes out")
    if model.attributes:
        train, held_out = judged(run, runs.read_settings(run), data)
        some = held_out.some(number).conditions()
        named = attributes is not None
        y = usual(train, _asked(attributes, train.classes)) if named else some[torch.arange(number) % len(some)]
    elif attributes is not None or of_grid:
        raise AlikitError(f"{run} is no conditional run: leave --attributes and --grid out")
    torch.manual_seed(seed)
    if of_grid:
        y = paper_grid(train)
        x = model.decode(model.prior(1).expand(y.shape[:2].numel(), -1), y=y.flatten(0, 1))
        runs.save_picture(grid(x, y.shape[1], zoom=max(1, 64 // x.shape[-1])), out)
    else:
        x = model.sample(number, y)
        runs.save_picture(picture(x), out)
    return len(x)


@enough_memory("ask for fewer pictures")
def reconstructions(
    run: Path,
    out: Path,
    number: int,
    seed: int,
    mean: bool,
    attributes: str | None,
    data: str | None,
    device: str = "cpu",
) -> int:
    """Writes held-out examples of a run, each followed by its reconstruction, to the picture `out`; returns how many.
    With `attributes` they are decoded with these switched."""
    model, to = runs.load_model(run, device), None
    if attributes is not None and not model.attributes:
        raise AlikitError(f"{run} is no conditional run: leave --attributes out")
    _, held_out = judged(run, runs.read_settings(run), data)
    torch.manual_seed(seed)
    some = held_out.some(number)
    x, y = some.floats(), conditions_of(model, some)
    if attributes is not None:
        of_classes, names = held_out.labels.ndim == 1, _asked(attributes, held_out.classes)
        to = usual(held_out, names) if of_classes else switched(y, names, held_out.classes)
    runs.save_picture(picture(beside(x, model.reconstruct(x, not mean, y, to))), out)
    return len(x)


def sheets(model: Game, held_out: Dataset) -> dict[str, Image.Image]:
    """The sheets of a record by name, of the model's own pictures alone and from the same seed each time."""
    some = held_out.some(60)
    x, y = some.floats()[:30], conditions_of(model, some)

    def of(*rows: int) -> Tensor | None:
        return None if y is None else y[slice(*rows)]

    ends = 2 * min(6, len(x) // 2)
    with same_chance():
        z = model.prior(10)
        left, right = of(0, ends, 2), of(1, ends, 2)
        paths = model.interpolate(x[:ends:2], x[1:ends:2], steps=10, y_from=left, y_to=right)
        cycle = [model.decode(z, y=of(10))]
        for _ in range(3):
            cycle.append(model.reconstruct(cycle[-1], sample=False, y=of(10)))
        drawn = model.sample(len(some), y)
        x_hat = [model.reconstruct(x, sample=sample, y=of(len(x))) for sample in (False, True)]
    rows = {"samples": drawn, "reconstructions": torch.cat(x_hat)}
    rows |= {"interpolations": paths.flatten(0, 1), "cycle": torch.cat(cycle)}
    return {name: grid(x, columns=10, zoom=max(1, 64 // x.shape[-1])) for name, x in rows.items()}


def switch_sheets(model: Game, held_out: Dataset, grid_of_y: Tensor | None) -> dict[str, Image.Image]:
    """Attributes switched one by one, or the first classes, of codes from the prior and of held-out pictures; and the
    paper's grid of one z. The codes are the first that the seed gives, none is chosen."""
    some, names, found, of_classes = held_out.some(SWITCHED), held_out.classes, {}, held_out.labels.ndim == 1
    y, zoom = some.conditions(), max(2, 96 // held_out.shape[-1])
    with same_chance():
        z = model.prior(len(some))
        z_hat = model.encode(some.floats().to(model.device), sample=False, y=y)
    shown = [name for name in NAMED if name in names and not of_classes] or list(names[:14])
    columns = ["as it is", *(SHORT.get(name, name.replace("_", " ").lower()) for name in shown)]
    for name, of, codes_of in (("switches", "code", z), ("switched", "picture", z_hat)):
        rows = {}
        for number, (code, own) in enumerate(zip(codes_of, y, strict=True), start=1):
            if of_classes:
                flipped = [*torch.eye(len(own), dtype=own.dtype)[: len(shown)]]
            else:
                off = {a: own.index_fill(0, torch.tensor(names.index(a)), 0) for a in shown}  # -1 may be a name as 1 is
                flipped = [off[a] if own[names.index(a)] else switched(own, [a], names) for a in shown]
            ys = torch.stack([own, *flipped])
            rows[f"{of} {number}"] = model.decode(code.expand(len(ys), -1), y=ys)
        found[name] = strips(rows, columns, zoom)
    if grid_of_y is not None:
        with same_chance():
            z = model.prior(1)
        rows = {name: model.decode(z.expand(len(ys), -1), y=ys) for name, ys in zip(ROWS, grid_of_y, strict=True)}
        found["grid"] = strips(rows, list(COLUMNS), zoom)
    return found
