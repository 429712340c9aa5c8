"""What people look at: grids of pictures, planes of points, curves of a run. Takes tensors, never trains.

matplotlib is imported where it draws: most commands show pictures alone, and start sooner without it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from .data import GridMixture
from .models import Game

# The colours of Okabe and Ito, which colour-blind readers can tell apart. One thing has one colour in every figure.
DATA, MODEL, ENCODER, DISCRIMINATOR = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
LABELS = 130  # pixels, the least width of the column of row names
SIZE = 9  # points, the size of names


def grid(pictures: Tensor, columns: int = 10, zoom: int = 1) -> Image.Image:
    """Pictures (N, C, H, W) in [0, 1] as one RGB image, row by row with white lines between, each pixel zoom x zoom.

    As `torchvision.utils.make_grid` lays them out, which takes more than a second to import.
    """
    tiles = interpolate(pictures.float().cpu().clamp(0, 1), scale_factor=zoom)
    if len(tiles) > 1:
        columns = min(columns, len(tiles))
        lines = pad(tiles, (2, 0, 2, 0, 0, 0, 0, -len(tiles) % columns), value=1.0)  # to the left of each and above
        sheet = lines.unflatten(0, (-1, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        tiles = pad(sheet, (0, 2, 0, 2), value=1.0)[None]
    sheet = (tiles[0] * 255).round().byte()
    return Image.fromarray((sheet.expand(3, -1, -1) if len(sheet) == 1 else sheet).permute(1, 2, 0).numpy())


def beside(x: Tensor, x_hat: Tensor) -> Tensor:
    """Each original followed by its reconstruction, as in the paper's figures 2 to 4: two (N, ...) -> (2 N, ...)."""
    return torch.stack([x.cpu(), x_hat.cpu()], dim=1).flatten(0, 1)


def show(axes, pictures: Tensor, columns: int = 10, title: str = "", zoom: int = 4) -> None:
    """Draws a `grid` on matplotlib axes, without ticks. The zoom keeps the lines between pictures thin."""
    axes.imshow(grid(pictures, columns, zoom))
    axes.set_title(title)
    axes.set_axis_off()


def strips(rows: dict[str, Tensor], columns: Sequence[str] = (), zoom: int = 2) -> Image.Image:
    """Rows of pictures {name: (N, C, H, W) in [0, 1]}, all of one size, as one image with the name before each row.

    `columns` are names above. A name too wide for its column takes two lines, then a smaller size.
    """
    sheets = [grid(pictures, len(pictures), zoom) for pictures in rows.values()]
    wide, high = sheets[0].size
    left, room = max(LABELS, max(map(_width, rows)) + 16), wide / max(1, len(columns))
    heads = [_on_two_lines(name) if _width(name) > room else name for name in columns]
    size = SIZE * room / max([room, *map(_width, heads)])
    top = 0 if not heads else 40 if any("\n" in head for head in heads) else 25
    height = top + high * len(sheets)
    figure = new_figure(figsize=((left + wide) / 100, height / 100), dpi=100)
    # Without a transform, places are in pixels from the lower left. The centre of a pixel is at a half.
    centred = {"va": "center", "transform": None}
    for number, name in enumerate(rows):
        figure.text(left - 7.5, height - top - high * (number + 0.5) - 0.5, name, ha="right", size=SIZE, **centred)
    for number, head in enumerate(heads):
        place = left + room * (number + 0.5), height - top / 2
        figure.text(*place, head, ha="center", size=max(6.0, size), **centred)
    image = drawn(figure)
    for number, sheet in enumerate(sheets):
        image.paste(sheet, (image.width - wide, top + high * number))
    return image


def _on_two_lines(name: str) -> str:
    """A name broken into two lines as even as possible, if it has several words."""
    words = name.split()
    broken = [f"{' '.join(words[:i])}\n{' '.join(words[i:])}" for i in range(1, len(words))]
    return min(broken or [name], key=_width)


def _width(name: str) -> float:
    """The width of a name of full size, or of its wider line, in pixels with a margin of 10."""
    from matplotlib.textpath import TextPath

    widths = [TextPath((0, 0), line, size=SIZE).get_extents().width for line in name.splitlines() if line.strip()]
    return 10 + max(widths, default=0.0) * 100 / 72


def plane(axes, points: Tensor, colour=MODEL, extent: float = 5.5, title: str = "", size: float = 3) -> None:
    """Scatters points (N, 2) on matplotlib axes; `colour` is one colour, or (N, 3) with one for each point."""
    x, y = points.detach().cpu().T
    axes.scatter(x, y, s=size, c=colour, alpha=0.5, linewidths=0, rasterized=True)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)


def plane_image(points: Tensor, colour=MODEL) -> Image.Image:
    """`plane` as an image of its own."""
    figure = new_figure(figsize=(5, 5), dpi=100, layout="constrained")
    plane(figure.subplots(), points, colour)
    return drawn(figure)


def picture(x: Tensor) -> Image.Image:
    """A grid of pictures, small ones enlarged; or a scatter plot of points."""
    if x.ndim == 2:  # the first two of their numbers
        return plane_image(torch.nn.functional.pad(x, (0, max(0, 2 - x.shape[1])))[:, :2])
    return grid(x, zoom=max(1, 64 // x.shape[-1]))


def new_figure(**how):
    """A matplotlib figure that no screen shows."""
    from matplotlib.figure import Figure

    return Figure(**how)


def drawn(figure) -> Image.Image:
    """A matplotlib figure as an RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def learning_figure(log: list[dict], epoch_steps: int) -> Image.Image:
    """A run's losses by epochs, and below them whether the encoder still uses z.

    log           lines as `runs.metrics` gives them; those without losses are left out
    epoch_steps   steps in an epoch
    """
    figure = new_figure(figsize=(6.5, 5), dpi=100, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for axes, name, colour, label in (
        (above, "discriminator", DISCRIMINATOR, "discriminator"),
        (above, "generator", MODEL, "generator"),
        (below, "cycle", "0.2", "error of z to x to z"),
        (below, "spread", ENCODER, "spread of the encoder's means"),
        (below, "sigma", DATA, "sigma of q(z|x)"),
    ):
        found = [(line["step"] / epoch_steps, line[name]) for line in log if "generator" in line and name in line]
        if found:  # a GAN has no encoder to follow
            axes.plot(*zip(*found, strict=True), color=colour, linewidth=1, label=label)
    above.axhline(2 * np.log(2), color="0.6", linewidth=0.8, linestyle=":", label="both, if D can tell nothing")
    above.set(ylabel="loss in nats", ylim=(0, None))
    below.set(xlabel="epochs", ylim=(0, 1.6))
    for axes in (above, below):
        if axes.get_legend_handles_labels()[0]:
            # Above the axes: inside, one of the curves would run through it.
            axes.legend(fontsize="small", frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn(figure)


def mode_colours(means: Tensor) -> Tensor:
    """A colour for each mean of a grid, (M, 2) -> (M, 3) in [0, 1]: a blend of four corners, which colour-blind readers
    can tell apart, so neighbours look alike."""
    u = (means - means.min(0).values) / (means.max(0).values - means.min(0).values)
    (a, b), (c, d) = torch.tensor([[[0.0, 0.27, 0.60], [0.34, 0.78, 0.95]], [[0.75, 0.20, 0.10], [0.98, 0.85, 0.25]]])
    left, right = (torch.lerp(low, high, u[:, 1:]) for low, high in ((a, b), (c, d)))
    return torch.lerp(left, right, u[:, :1])


ROWS = (
    "held-out data\n$x \\sim q(x)$",
    "codes\n$\\hat{z} \\sim q(z \\mid x)$",
    "reconstructions\n$G_x(\\hat{z})$",
    "prior\n$z \\sim p(z)$",
    "samples\n$\\tilde{x} = G_x(z)$",
)


def inference_figure(models: dict[str, Game], x: Tensor, labels: Tensor):
    """A matplotlib figure in the layout of the paper's figure 8: a column for each model under its name, and five rows.

    Held-out x (N, 2) of the paper's mixture, coloured by their modes `labels` (N,), their codes z_hat and their
    reconstructions; draws z from the prior and their samples, both coloured by the sample's mode, grey if the sample is
    not finite. Rings are at 3 standard deviations of each mode; in planes of codes, at 1, 2 and 3 of the prior.

    Codes have 2 numbers. Draws are the same each time; torch's generator is left alone.
    """
    mixture = GridMixture()
    of_mode = mode_colours(mixture.means)
    figure = new_figure(figsize=(0.6 + 2.1 * len(models), 10.7), dpi=150, layout="compressed")
    table = figure.subplots(5, len(models), squeeze=False)
    for column, (name, model) in zip(table.T, models.items(), strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            order = torch.randperm(len(x))  # what is drawn last lies on top, and should not be of one mode
            z = torch.randn(len(x), 2)
            z_hat = model.encode(x[order].to(model.device))
            x_tilde = model.decode(z.to(model.device), sample=True).cpu()
        of_x, of_z = of_mode[labels.cpu()[order]], of_mode[mixture.nearest_mode(x_tilde)[0]]
        of_z[~x_tilde.isfinite().all(1)] = 0.6
        panels = ((x[order], of_x), (z_hat, of_x), (model.decode(z_hat), of_x), (z, of_z), (x_tilde, of_z))
        for row, (points, colours) in enumerate(panels):
            _panel(column[row], points, colours, None if row in (1, 3) else mixture)
        column[0].set_title(name, size="medium")
    for axes, name in zip(table[:, 0], ROWS, strict=True):
        axes.set_ylabel(name)
    return figure


def _panel(axes, points: Tensor, colours: Tensor, mixture: GridMixture | None) -> None:
    """The plane of the mixture, or of codes without one; in a corner the share of points outside."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

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
