"""What people look at: grids of pictures and planes of points. Takes tensors, never trains."""

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

# Okabe and Ito's colours: told apart by colour-blind readers too. The same thing has the same colour in every figure.
DATA, MODEL, ENCODER, DISCRIMINATOR = "#0072B2", "#D55E00", "#009E73", "#CC79A7"


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


def plane(axes, points: Tensor, colour=MODEL, extent: float = 5.5, title: str = "") -> None:
    """Scatters points (N, 2) on matplotlib axes; `colour` is one colour, or (N, 3) one for each point."""
    x, y = points.detach().cpu().T
    axes.scatter(x, y, s=3, c=colour, alpha=0.5, linewidths=0)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", title=title)


def plane_image(points: Tensor, colour=MODEL) -> Image.Image:
    """`plane` as an image of its own, drawn without a screen."""
    figure = Figure(figsize=(5, 5), dpi=100, layout="constrained")
    plane(figure.subplots(), points, colour)
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
