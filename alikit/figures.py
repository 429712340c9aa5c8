"""What people look at: grids of pictures and planes of points. Takes tensors, never trains."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.textpath import TextPath
from PIL import Image
from torch import Tensor

from .data import GridMixture
from .errors import AlikitError
from .models import Game

# Okabe and Ito's colours: told apart by colour-blind readers too. The same thing has the same colour in every figure.
DATA, MODEL, ENCODER, DISCRIMINATOR = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

LABELS = 130  # pixels for the names of rows, at least
SIZE = 9  # of names, in points


def grid(pictures: Tensor, columns: int = 10, zoom: int = 1) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] as one RGB image, row by row, white lines between; each pixel zoom x zoom."""
    from torchvision.utils import make_grid  # seconds to import: only where pictures are drawn

    tiles = torch.nn.functional.interpolate(pictures.float().cpu().clamp(0, 1), scale_factor=zoom)
    sheet = make_grid(tiles, nrow=columns, padding=2, pad_value=1.0)
    return Image.fromarray((sheet * 255).round().byte().permute(1, 2, 0).numpy())


def beside(x: Tensor, x_hat: Tensor) -> Tensor:
    """Originals in odd and their reconstructions in even places (counted from 1, as in the paper's figures 2 to 4):
    two (N, ...) -> (2 N, ...)."""
    return torch.stack([x.cpu(), x_hat.cpu()], dim=1).flatten(0, 1)


def show(axes, pictures: Tensor, columns: int = 10, title: str = "", zoom: int = 4) -> None:
    """Draws a `grid` on matplotlib axes, without ticks; enlarged, so that the lines between pictures stay thin."""
    axes.imshow(grid(pictures, columns, zoom))
    axes.set_title(title)
    axes.set_axis_off()


def strips(rows: dict[str, Tensor], columns: Sequence[str] = (), zoom: int = 2) -> Image.Image:
    """Rows of pictures {name: (N, C, H, W) in [0, 1]} as one image, each row after its name. All rows have the same
    size; `columns` are names for above. A name that is too long for its column goes on two lines, then smaller."""
    sheets = [np.asarray(grid(pictures, columns=len(pictures), zoom=zoom)) for pictures in rows.values()]
    high, wide = sheets[0].shape[:2]
    left = max(LABELS, max(map(_width, rows)) + 16)
    heads = [_two_lines(column, wide / len(columns)) for column in columns]
    widest = max((_width(line) for head in heads for line in head.splitlines()), default=0.0)
    size = max(6.0, SIZE * min(1.0, wide / len(columns) / widest)) if widest else SIZE
    top = 0 if not columns else 40 if any("\n" in head for head in heads) else 25
    figure = Figure(figsize=((left + wide) / 100, (high * len(sheets) + top) / 100), dpi=100)
    figure.subplots_adjust(left / figure.bbox.width, 0, 1, high * len(sheets) / figure.bbox.height, hspace=0)
    for axes, name, sheet in zip(figure.subplots(len(sheets), squeeze=False)[:, 0], rows, sheets, strict=True):
        axes.imshow(sheet, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        axes.text(-8, high / 2, name, ha="right", va="center", size=SIZE)
    for number, head in enumerate(heads):
        x = left + (number + 0.5) * wide / len(columns)
        figure.text(x / figure.bbox.width, 1 - top / 2 / figure.bbox.height, head, ha="center", va="center", size=size)
    return drawn(figure)


def _two_lines(name: str, room: float) -> str:
    """A name on two lines, as even as can be, where one is wider than `room` pixels."""
    words = name.split()
    if _width(name) <= room or len(words) < 2:
        return name
    broken = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return "\n".join(min(broken, key=lambda lines: max(map(_width, lines))))


def _width(text: str) -> float:
    """Of a name in its full size, in pixels at 100 to an inch, with air around it."""
    bounds = TextPath((0, 0), text, size=SIZE).get_extents() if text.strip() else None
    return 10 + bounds.width * 100 / 72 if bounds else 0.0


def few_colours(picture: Image.Image) -> Image.Image:
    """A picture in 256 colours of its own, to be written as PNG: less than half the bytes, and to the eye the same. Not
    dithered: each pixel of a `grid` is a block of equal ones, which packs well."""
    some = picture.convert("RGB").resize((-(-picture.width // 3), -(-picture.height // 3)), Image.Resampling.NEAREST)
    palette = some.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=300).getpalette()  # a ninth of it is enough to tell
    # The nearest by hand: Pillow looks at the upper bits alone, which turns white to grey.
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB"), np.int32), 2, 0)
    each, places = np.unique((red << 16) + (green << 8) + blue, return_inverse=True)
    colours = torch.from_numpy(np.stack([each >> 16, each >> 8 & 255, each & 255], 1)).float()
    ours = torch.tensor(palette).view(-1, 3).float()
    nearest = torch.cat([torch.cdist(part, ours).argmin(1) for part in colours.split(10_000)])
    few = Image.fromarray(nearest.byte().numpy()[places.reshape(red.shape)])
    few.putpalette(palette)
    return few


def plane(axes, points: Tensor, colour=MODEL, extent: float = 5.5, title: str = "", size: float = 3) -> None:
    """Scatters points (N, 2) on matplotlib axes; `colour` is one colour, or (N, 3) one for each point."""
    x, y = points.detach().cpu().T
    axes.scatter(x, y, s=size, c=colour, alpha=0.5, linewidths=0, rasterized=True)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)


def plane_image(points: Tensor, colour=MODEL) -> Image.Image:
    """`plane` as an image of its own, drawn without a screen."""
    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    plane(figure.subplots(), points, colour)
    return drawn(figure)


def learning_figure(log: list[dict], epoch_steps: int) -> Image.Image:
    """A run's log of pictures as an image: the players' losses, and below whether the encoder is awake, by epochs.

    log           lines as `runs.metrics` gives them; those without losses are left out
    epoch_steps   steps in an epoch
    """
    lines = [line for line in log if "generator" in line]
    epochs = [line["step"] / epoch_steps for line in lines]
    figure = Figure(figsize=(6.5, 5), dpi=100, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name, colour in (("discriminator", DISCRIMINATOR), ("generator", MODEL)):
        above.plot(epochs, [line[name] for line in lines], color=colour, linewidth=1, label=name)
    above.axhline(2 * np.log(2), color="0.6", linewidth=0.8, linestyle=":", label="both, if D can tell nothing")
    above.set(ylabel="loss in nats", ylim=(0, None))
    for name, colour, what in (
        ("cycle", "0.2", "error of z on its way to x and back"),
        ("spread", ENCODER, "spread of the encoder's means"),
        ("sigma", DATA, "sigma of q(z|x)"),
    ):
        found = [(epoch, line[name]) for epoch, line in zip(epochs, lines, strict=True) if name in line]
        if found:
            below.plot(*zip(*found, strict=True), color=colour, linewidth=1, label=what)
    below.set(xlabel="epochs", ylim=(0, 1.6))
    for axes in (above, below):
        if axes.get_legend_handles_labels()[0]:  # a GAN has no encoder to follow
            axes.legend(fontsize="small", frameon=False, loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
    return drawn(figure)


def drawn(figure: Figure) -> Image.Image:
    """A figure as an image, without a screen."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def mode_colours(means: Tensor) -> Tensor:
    """A colour for each mean of a grid (M, 2) -> (M, 3) in [0, 1]: neighbours in the plane get neighbouring colours,
    blended between four corners that colour-blind readers tell apart too."""
    u = (means - means.min(0).values) / (means.max(0).values - means.min(0).values)
    corners = torch.tensor([[0.0, 0.27, 0.60], [0.34, 0.78, 0.95], [0.75, 0.20, 0.10], [0.98, 0.85, 0.25]])
    weights = torch.stack(
        [(1 - u[:, 0]) * (1 - u[:, 1]), (1 - u[:, 0]) * u[:, 1], u[:, 0] * (1 - u[:, 1]), u.prod(1)], 1
    )
    return weights @ corners


def inference_figure(models: dict[str, Game], x: Tensor, labels: Tensor, seed: int = 0) -> Figure:
    """The layout of the paper's figure 8: a column a model, its title the dict's key, and five rows.

    1 held-out x (N, 2) of the paper's mixture, coloured by the mode they came from, labels (N,); 2 their codes z_hat
    and 3 reconstructions in the same colours; 4 draws z from the prior, the same for every model, coloured by the mode
    that their sample belongs to by largest responsibility, grey without a finite one; 5 those samples, coloured alike.

    Rings go 3 standard deviations around each mode's mean, circles 1, 2 and 3 of the prior's around the origin; what
    lies outside a frame is counted in its corner. Chance comes from `seed`; the global seed is untouched. AlikitError
    if a model cannot encode, or its codes are no plane.
    """
    for name, model in models.items():
        if model.z_dim != 2:
            raise AlikitError(
                f"only codes of 2 numbers can be drawn in a plane, and those of {name} have {model.z_dim}"
            )
    mixture = GridMixture()
    of_mode = mode_colours(mixture.means)
    figure = Figure(figsize=(0.6 + 2.1 * len(models), 10.7), dpi=150, layout="compressed")
    table = figure.subplots(5, len(models), squeeze=False)
    for axes, (name, model) in zip(table.T, models.items(), strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # In chance order: what is drawn last lies on top, and should be of no one mode.
            order = torch.randperm(len(x))
            z = torch.randn(len(x), 2)
            z_hat = model.encode(x[order].to(model.device))
            x_tilde = model.decode(z.to(model.device), sample=True).cpu()
        colours, colours_p = of_mode[labels.cpu()[order]], of_mode[mixture.nearest_mode(x_tilde)[0]]
        colours_p[~x_tilde.isfinite().all(1)] = 0.6
        _framed(axes[0], x[order], colours, mixture)
        _framed(axes[1], z_hat, colours)
        _framed(axes[2], model.decode(z_hat), colours, mixture)
        _framed(axes[3], z, colours_p)
        _framed(axes[4], x_tilde, colours_p, mixture)
        axes[0].set_title(name, size="medium")
    for axes, (what, formula) in zip(table[:, 0], _ROWS, strict=True):
        axes.set_ylabel(f"{what}\n{formula}")
    return figure


_ROWS = (
    ("held-out data", r"$x \sim q(x)$"),
    ("codes", r"$\hat{z} \sim q(z \mid x)$"),
    ("reconstructions", r"$G_x(\hat{z})$"),
    ("prior", r"$z \sim p(z)$"),
    ("samples", r"$\tilde{x} = G_x(z)$"),
)


def _framed(axes, points: Tensor, colours: Tensor, mixture: GridMixture | None = None) -> None:
    """One panel of `inference_figure`: the mixture's plane, or without a mixture that of the codes."""
    if mixture:
        extent, rings = 5.5, [Circle(mean, 3 * mixture.std) for mean in mixture.means]
    else:
        extent, rings = 4.0, [Circle((0, 0), radius) for radius in (1, 2, 3)]
    axes.add_collection(PatchCollection(rings, facecolor="none", edgecolor="0.7", linewidth=0.4, zorder=0))
    plane(axes, points, colours, extent, size=1.2)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="0.6", linewidth=0.5)
    outside = 1 - (points.abs() <= extent).all(1).double().mean().item()
    if outside >= 0.0005:
        label = axes.text(0.025, 0.03, f"{outside:.1%} outside", transform=axes.transAxes, size="x-small", color="0.3")
        label.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})
