"""The panel between two pictures: one slider from code to code."""

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from ..figures import grid, strips
from ..models import mix
from .panel import BIG, BLANK, SMALL, Panel, fill, frame, zoom

STOPS, STRIP = 101, 9  # of the slider; of the strip below


class Between(Panel):
    """Two held-out codes by their numbers, and the way from one to the other, straight or `spherical` (see `mix`)."""

    def build(self) -> list[ipywidgets.Widget]:
        self.picture, self.strip = frame(BIG), frame(SMALL)
        narrow = {"width": "160px"}
        self.from_, self.to = (
            ipywidgets.BoundedIntText(n, min=0, max=n + 1, description=name, layout=narrow)
            for n, name in enumerate(("from", "to"))
        )
        self.way = ipywidgets.ToggleButtons(options=["linear", "spherical"], style={"button_width": "90px"})
        self.place = ipywidgets.IntSlider(50, min=0, max=STOPS - 1, description="on the way")
        for control in (self.from_, self.to, self.way):
            self.answer(control, lambda _: self.show())
        self.answer(self.place, lambda _: self._show_place())
        controls = [ipywidgets.HBox([self.from_, self.to]), self.way, self.place]
        return [ipywidgets.HBox([self.picture, ipywidgets.VBox(controls)]), self.strip]

    def opened(self) -> None:
        with self.quietly():
            for control in (self.from_, self.to):
                control.max = len(self.space.codes) - 1
        self.show()

    def show(self) -> None:
        """Draws the whole way as a strip, and the place on it."""
        self._path = self._codes(spherical=self.way.value == "spherical")
        stops = self._path[:: (STOPS - 1) // (STRIP - 1)]
        x = self.space.model.decode(stops)
        fill(self.strip, grid(x, columns=len(stops), zoom=zoom(self.space.x_shape, SMALL)))
        self._show_place()

    def sheet(self) -> Image.Image:
        """Both ways as one picture. Blank where no run is open."""
        if self.space is None:
            return BLANK
        rows = {
            name: self.space.model.decode(self._codes(name == "spherical")[:: (STOPS - 1) // (STRIP - 1)])
            for name in self.way.options
        }
        return strips(rows, zoom=zoom(self.space.x_shape, SMALL))

    def _codes(self, spherical: bool) -> Tensor:
        """(STOPS, Z)."""
        ends = self.space.codes[torch.tensor([self.from_.value, self.to.value])]
        return mix(ends[:1], ends[1:], STOPS, spherical)[0]

    def _show_place(self) -> None:
        x = self.space.model.decode(self._path[self.place.value][None])
        fill(self.picture, grid(x, zoom=zoom(self.space.x_shape, BIG)))
