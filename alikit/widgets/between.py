"""The panel between two pictures: one slider from code to code."""

import ipywidgets
import PIL.Image
import torch
from ipywidgets import BoundedIntText, HBox, IntSlider, ToggleButtons, VBox
from torch import Tensor

from ..figures import strips
from ..models import mix
from .panel import BIG, BLANK, SMALL, Panel, draw, frame, zoom

STOPS, EVERY = 101, 12  # places of the slider; the strip shows every twelfth


class Between(Panel):
    """The way from one held-out code to another, both chosen by number; straight or `spherical`, see `mix`."""

    def build(self) -> list[ipywidgets.Widget]:
        self.picture, self.strip = frame(BIG), frame(SMALL)
        self.from_, self.to = (
            BoundedIntText(n, min=0, max=n + 1, description=name, layout={"width": "160px"})
            for n, name in enumerate(("from", "to"))
        )
        self.way = ToggleButtons(options=["linear", "spherical"], style={"button_width": "90px"})
        self.place = IntSlider(50, min=0, max=STOPS - 1, description="on the way")
        self.answer(self.show, self.from_, self.to, self.way)
        self.answer(self._show_place, self.place)
        controls = VBox([HBox([self.from_, self.to]), self.way, self.place])
        return [HBox([self.picture, controls]), self.strip]

    def opened(self) -> None:
        with self.quietly():
            self.from_.max = self.to.max = len(self.space.codes) - 1
        self.show()

    def show(self) -> None:
        """Draws the whole way as a strip, and the place on it."""
        draw(self.strip, self.space.model.decode(self._path(self.way.value)[::EVERY]), SMALL)
        self._show_place()

    def _show_place(self) -> None:
        z = self._path(self.way.value)[self.place.value]
        draw(self.picture, self.space.model.decode(z[None]), BIG)

    def sheet(self) -> PIL.Image.Image:
        """Both ways as one picture. Blank where no run is open."""
        if self._space is None:
            return BLANK
        rows = {way: self.space.model.decode(self._path(way)[::EVERY]) for way in self.way.options}
        return strips(rows, zoom=zoom(rows["linear"], SMALL))

    def _path(self, way: str) -> Tensor:
        """(STOPS, Z)."""
        ends = self.space.codes[torch.tensor([self.from_.value, self.to.value])]
        return mix(ends[:1], ends[1:], STOPS, spherical=way == "spherical")[0]
