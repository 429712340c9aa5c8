"""The panel between two pictures: one slider from code to code."""

import PIL.Image
import torch
from ipywidgets import BoundedIntText, HBox, IntSlider, ToggleButtons, VBox, Widget
from torch import Tensor

from ..models import mix
from .panel import BIG, SMALL, Panel, draw, frame, sheet

STOPS, EVERY = 101, 12  # places of the slider; the strip shows every twelfth


class Between(Panel):
    """The path from one held-out code to another, both chosen by number; straight or `spherical`, see `mix`."""

    def build(self) -> list[Widget]:
        self.picture, self.strip = frame(BIG), frame(SMALL)
        narrow = {"width": "160px"}
        self.from_ = BoundedIntText(0, min=0, max=1, description="from", layout=narrow)
        self.to = BoundedIntText(1, min=0, max=2, description="to", layout=narrow)
        self.way = ToggleButtons(options=["linear", "spherical"], style={"button_width": "90px"})
        self.place = IntSlider(50, min=0, max=STOPS - 1, description="on the way")
        self.answer(self.show, self.from_, self.to, self.way, self.place)
        controls = VBox([HBox([self.from_, self.to]), self.way, self.place])
        return [HBox([self.picture, controls]), self.strip]

    def opened(self) -> None:
        self.from_.max = self.to.max = len(self.space.codes) - 1
        self.show()

    def show(self) -> None:
        """Draws the place on the path, and the whole path as a strip."""
        path = self._path(self.way.value)
        x = self.space.model.decode(torch.cat([path[self.place.value][None], path[::EVERY]]))
        draw(self.picture, x[:1], BIG)
        draw(self.strip, x[1:], SMALL)

    def sheet(self) -> PIL.Image.Image:
        """Both paths as one picture."""
        return sheet({way: self.space.model.decode(self._path(way)[::EVERY]) for way in self.way.options})

    def _path(self, way: str) -> Tensor:
        """(STOPS, Z)."""
        ends = self.space.codes[torch.tensor([self.from_.value, self.to.value])]
        return mix(ends[:1], ends[1:], STOPS, spherical=way == "spherical")[0]
