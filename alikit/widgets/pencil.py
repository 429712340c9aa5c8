"""The panel that encodes: draw something, or pick a picture, and see its code."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from ipycanvas import Canvas, hold_canvas
from ipywidgets import BoundedIntText, Button, ColorPicker, FileUpload, HBox, VBox, Widget
from PIL import ImageColor
from torch import Tensor

from ..data.images import decode, square
from ..errors import AlikitError
from .panel import BIG, draw, frame
from .sliders import Sliders


class Pencil(Sliders):
    """`Sliders` that begin at the code of a picture: one drawn with the mouse, a held-out one, or a file.

    From left to right: the drawing, the picture that was encoded, and what the decoder makes of its code.

    pictures  by the name of a run, the held-out pictures (N, C, H, W) in [0, 1] whose codes it keeps, where they may be
              shown. For other runs their code is decoded instead
    """

    def __init__(self, results=None, models=None, first=None, pictures: Mapping[str, Tensor] | None = None):
        self._pictures = dict(pictures or {})
        super().__init__(results, models, first)

    def build(self) -> list[Widget]:
        self.canvas = Canvas(width=BIG, height=BIG, layout={"width": f"{BIG}px", "height": f"{BIG}px"})
        self.canvas.on_mouse_down(self._press)
        self.canvas.on_mouse_move(self._drag)
        self.canvas.on_mouse_up(self._lift)
        self.canvas.on_mouse_out(self._lift)
        self.ink = ColorPicker(value="#f4f1e8", description="ink", layout={"width": "200px"})
        self.paper = ColorPicker(value="#27408b", description="paper", layout={"width": "200px"})
        self.clear = Button(description="clear", icon="eraser")
        self.number = BoundedIntText(0, min=0, description="held-out", layout={"width": "160px"})
        self.upload = FileUpload(accept="image/*", description="a file", layout={"width": "160px"})
        self.given, self._at = frame(BIG), None  # _at: where the pencil is, while a button is held
        self.answer(self._wipe, self.clear, self.paper)
        self.answer(self._pick, self.number)
        self.answer(self._read, self.upload)
        pad = VBox([self.canvas, HBox([self.ink, self.clear]), self.paper])
        return [HBox([pad, VBox([self.given, self.number, self.upload])]), *super().build()]

    def opened(self) -> None:
        self.ink.layout.display = self.paper.layout.display = None if self.space.x_shape[0] == 3 else "none"
        with self.quietly():
            self.number.max = len(self.space.codes) - 1
        super().opened()
        self._wipe()
        self._pick()

    def encode(self, x: Tensor) -> None:
        """Shows a picture (C, H, W) in [0, 1] and its code. One that does not fit the run leaves a message instead."""
        with self.telling():
            z = self.space.encode(x)
            draw(self.given, torch.as_tensor(x).reshape(1, *self.space.x_shape), BIG)
            self.start(z)

    def _pick(self) -> None:
        pictures = self._pictures.get(self.run.value)
        if pictures is not None:
            self.encode(pictures[self.number.value])
            return
        z = self.space.codes[self.number.value]
        draw(self.given, self.space.model.decode(z[None]), BIG)
        self.start(z)
        self.say("The pictures of this run are not kept with it: what stands in its place is made from the code.")

    def _read(self) -> None:
        channels, size, _ = self.space.x_shape
        for file in self.upload.value:
            pixels = decode(io.BytesIO(file["content"]), square(size))
            if pixels is None:
                raise AlikitError(f"{file['name']} is no readable picture: choose a PNG or JPEG file")
            x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
            self.encode(x if channels == 3 else x.mean(0, keepdim=True))

    # The drawing is a picture of the run's own size. The canvas shows it enlarged.

    def _wipe(self) -> None:
        channels, high, wide = self.space.x_shape
        self.drawing = self._colour(self.paper)[:, None, None].expand(channels, high, wide).clone()
        self._paint(torch.ones(high, wide, dtype=torch.bool))

    def _colour(self, picker: ColorPicker) -> Tensor:
        """(C,), in grey always light on black, as the digits are."""
        if self.space.x_shape[0] == 1:
            return torch.tensor([float(picker is self.ink)])
        return torch.tensor(ImageColor.getrgb(picker.value)[:3]) / 255

    def _paint(self, where: Tensor) -> None:
        """Shows the pixels of the drawing that `where` (H, W) marks."""
        cell = BIG / self.space.x_shape[-1]
        rows, columns = where.nonzero().numpy().T
        colours = (self.drawing[:, where].expand(3, -1).T.numpy() * 255).round().astype(np.uint8)
        with hold_canvas():
            self.canvas.fill_styled_rects(columns * cell, rows * cell, cell, cell, colours)

    def _press(self, x: float, y: float) -> None:
        if self._space:
            self._at = (x, y)
            self._drag(x, y)

    def _drag(self, x: float, y: float) -> None:
        """Draws from where the pencil was to (x, y), a line as wide as the strokes of digits, with soft edges."""
        if self._at is None:
            return
        side = self.space.x_shape[-1]
        begin, end = (torch.tensor(at) * side / BIG - 0.5 for at in (self._at, (x, y)))
        self._at, way = (x, y), end - begin
        pixels = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), dim=2).float()
        along = ((pixels - begin) @ way / way.square().sum().clamp(min=1e-6)).clamp(0, 1)
        distance = (pixels - begin - along[..., None] * way).norm(dim=2)
        cover = (side / 20 + 0.5 - distance).clamp(0, 1)
        self.drawing = torch.lerp(self.drawing, self._colour(self.ink)[:, None, None], cover)
        self._paint(cover > 0)

    def _lift(self, x: float, y: float) -> None:
        if self._at is not None:
            self._at = None
            self.encode(self.drawing)
