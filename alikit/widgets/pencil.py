"""The panel that encodes: draw something, or pick a picture, and see its code."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from ipycanvas import Canvas
from ipywidgets import BoundedIntText, Button, ColorPicker, FileUpload, HBox, VBox, Widget
from PIL import Image, ImageDraw
from torch import Tensor

from ..data.decoding import decode, square
from ..errors import AlikitError
from .panel import BIG, draw, frame, weakly
from .sliders import Sliders

WIDTH = BIG // 10  # pixels, of a line: like the strokes of digits


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
        self.canvas.line_width, self.canvas.line_cap = WIDTH, "round"
        self.canvas.on_mouse_down(weakly(self._press))
        self.canvas.on_mouse_move(weakly(self._drag))
        self.canvas.on_mouse_up(weakly(self._lift))
        self.canvas.on_mouse_out(weakly(self._lift))
        self.ink = ColorPicker(value="#f4f1e8", description="ink", layout={"width": "200px"})
        self.paper = ColorPicker(value="#27408b", description="paper", layout={"width": "200px"})
        self.clear = Button(description="clear", icon="eraser")
        self.number = BoundedIntText(0, min=0, description="held-out", layout={"width": "160px"})
        self.upload = FileUpload(accept="image/*", description="a file", layout={"width": "160px"})
        self.given, self._at = frame(BIG), None  # _at: where the pencil is, while a button is held
        self.answer(self._wipe, self.clear, self.paper)
        self.answer(self._pick, self.number)
        self.answer(self._read, self.upload)
        self._wipe()
        pad = VBox([self.canvas, HBox([self.ink, self.clear]), self.paper])
        return [HBox([pad, VBox([self.given, self.number, self.upload])]), *super().build()]

    def opened(self) -> None:
        grey = self.space.x_shape[0] == 1  # light on black, as digits are
        self.ink.value, self.paper.value = ("#ffffff", "#000000") if grey else ("#f4f1e8", "#27408b")
        self.ink.layout.display = self.paper.layout.display = "none" if grey else None
        self.number.max = len(self.space.codes) - 1
        super().opened()
        self._wipe()
        self._pick()

    def encode(self, x: Tensor) -> None:
        """Shows a picture (C, H, W) in [0, 1] and its code. One that does not fit the run leaves a message instead."""
        with self.acting():
            z = self.space.encode(x)
            draw(self.given, x[None], BIG)
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
        for file in self.upload.value:
            picture = decode(io.BytesIO(file["content"]), square(self.space.x_shape[1]))
            if picture is None or picture.wrong:
                raise AlikitError(f"{file['name']} is no readable picture: choose a PNG or JPEG file")
            self._encode_pixels(np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3)))

    def _encode_pixels(self, pixels: np.ndarray) -> None:
        """Of a picture (H, W, 3) uint8 of the run's size."""
        x = torch.tensor(pixels).permute(2, 0, 1) / 255
        self.encode(x if self.space.x_shape[0] == 3 else x.mean(0, keepdim=True))

    # The browser shows the canvas and keeps it, so the drawing is made here a second time.

    def _wipe(self) -> None:
        self.drawing = Image.new("RGB", (BIG, BIG), self.paper.value)
        self.canvas.fill_style = self.paper.value
        self.canvas.fill_rect(0, 0, BIG)

    def _press(self, x: float, y: float) -> None:
        self._at = (x, y)
        self._drag(x, y)

    def _drag(self, x: float, y: float) -> None:
        """Draws a line from where the pencil was to (x, y)."""
        if self._at is None:
            return
        pen, ink = ImageDraw.Draw(self.drawing), self.ink.value
        pen.line([self._at, (x, y)], ink, WIDTH)
        pen.circle((x, y), WIDTH / 2, ink)
        self.canvas.stroke_style = ink
        self.canvas.stroke_line(*self._at, x, y)
        self._at = (x, y)

    def _lift(self, x: float, y: float) -> None:
        if self._at is not None:
            self._at = None
            with self.acting():
                size = self.space.x_shape[:0:-1]  # width, height
                self._encode_pixels(np.asarray(self.drawing.resize(size, Image.Resampling.BOX)))
