"""The panel of sliders: they show a code, and change it."""

from functools import partial

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from ..figures import grid, strips
from ..latent import Direction
from .panel import BIG, BLANK, SMALL, Panel, fill, frame, same_noise, zoom

AXES, MEANINGS, NEIGHBOURS = 8, 3, 8
# Put first where a run has them: what can be seen at a glance.
PREFERRED = ("Smiling", "Eyeglasses", "Male", "ink, brightness", "position, right", "paper, brightness")
REACH = 4.0  # standard deviations that a slider goes to either side
# A browser brings what it is told to a whole step and sends that back, as if a person had moved the slider. So it is
# told whole steps only, of a size that binary numbers hold exactly.
STEP = 0.125
NAME, SLIDER = "150px", "220px"  # how wide


class Sliders(Panel):
    """A code z, drawn as a picture, with sliders for the leading axes of q(z) and for directions with a meaning.

    Each slider shows its own reading of z (`Direction`), so all of them move when a new z is drawn, and those whose
    readings go together move together. `z` is the code that is shown; below the picture are the held-out codes nearest
    to it. Truncation draws z nearer to the mean of all codes, and leaves z itself as it is.
    """

    z: Tensor  # (Z,)

    def build(self) -> list[ipywidgets.Widget]:
        self.picture, self.strip = frame(BIG), frame(SMALL)
        self.axes = [_slider(f"axis {i + 1}") for i in range(AXES)]
        self.turns = [_slider("") for _ in range(MEANINGS)]
        self.meanings = [ipywidgets.Dropdown(layout=_layout(NAME)) for _ in range(MEANINGS)]
        self.qualities = [ipywidgets.HTML() for _ in range(MEANINGS)]
        self.truncation = ipywidgets.FloatSlider(
            1.0, min=0, max=1.5, step=STEP, description="truncation", layout=_layout("240px")
        )
        self.seed = ipywidgets.BoundedIntText(0, min=0, max=9999, description="seed", layout=_layout("160px"))
        self.another = ipywidgets.Button(description="another z", icon="random", layout=_layout("110px"))
        self.reset = ipywidgets.Button(description="reset", icon="undo", layout=_layout("80px"))
        for slider in (*self.axes, *self.turns):
            self.answer(slider, partial(self._move, slider))
        for meaning in self.meanings:
            self.answer(meaning, lambda _: self.show())
        self.answer(self.truncation, lambda _: self.show())
        self.answer(self.seed, lambda _: self._draw())
        self.another.on_click(self._next)
        self.reset.on_click(self._back)
        rows = [
            ipywidgets.HBox([meaning, slider, quality])
            for meaning, slider, quality in zip(self.meanings, self.turns, self.qualities, strict=True)
        ]
        left = [
            self.picture,
            ipywidgets.HBox([self.seed, self.another]),
            ipywidgets.HBox([self.truncation, self.reset]),
        ]
        return [
            ipywidgets.HBox([ipywidgets.VBox(left), ipywidgets.VBox([*self.axes, *rows])]),
            ipywidgets.HTML("the nearest held-out codes, decoded"),
            self.strip,
        ]

    def opened(self) -> None:
        names = list(self.space.meanings)
        names.sort(key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
        with self.quietly():
            for number, meaning in enumerate(self.meanings):
                meaning.options = names
                meaning.value = names[number] if number < len(names) else None
            self.truncation.value = 1.0
        for slider, number in zip(self.axes, range(AXES), strict=True):
            slider.layout.display = None if number < len(self.space.axes) else "none"
        for row in zip(self.meanings, self.turns, self.qualities, strict=True):
            for part in row:
                part.layout.display = None if row[0].value else "none"
        self.begin()

    def begin(self) -> None:
        """Shows the code that a run begins with."""
        self._draw()

    def start(self, z: Tensor) -> None:
        """Shows the code z of Z numbers, and comes back to it on reset. A message in the panel if its size is wrong."""
        with self.telling():
            self._start = self.need().check(z)
            self.z = self._start
            self.show()

    def show(self, moved: ipywidgets.Widget | None = None) -> None:
        """Draws the picture and its neighbours, and puts the sliders to z, but for the one that is being moved."""
        space = self.space
        nearest = space.codes[space.neighbours(self.z, NEIGHBOURS)]
        z = space.mean + self.truncation.value * (self.z - space.mean)
        x = space.model.decode(torch.cat([z[None], nearest]))
        fill(self.picture, grid(x[:1], zoom=zoom(space.x_shape, BIG)))
        fill(self.strip, grid(x[1:], columns=NEIGHBOURS, zoom=zoom(space.x_shape, SMALL)))
        with self.quietly():
            for slider, direction in self.directions().items():
                if slider is not moved:
                    slider.value = STEP * round(direction.reading(self.z).clamp(-REACH, REACH).item() / STEP)
            for meaning, quality in zip(self.meanings, self.qualities, strict=True):
                words = space.meanings[meaning.value].quality if meaning.value else ""
                quality.value = f'<span style="white-space:nowrap">{words}</span>'

    def directions(self) -> dict[ipywidgets.FloatSlider, Direction]:
        """What each slider turns."""
        found = dict(zip(self.axes, self.space.axes, strict=False))
        turns = zip(self.turns, self.meanings, strict=True)
        return found | {slider: self.space.meanings[meaning.value] for slider, meaning in turns if meaning.value}

    def sheet(self, columns: int = 7) -> Image.Image:
        """What the sliders do, as one picture: a row a slider, z turned from -3 to 3 standard deviations. Blank where
        no run is open."""
        if self.space is None:
            return BLANK
        values = torch.linspace(-3, 3, columns)
        names = [slider.description for slider in self.axes] + [meaning.value for meaning in self.meanings]
        sliders = dict(zip((*self.axes, *self.turns), names, strict=True))
        rows = {
            sliders[slider]: self.space.model.decode(direction.turned(self.z, values))
            for slider, direction in self.directions().items()
        }
        return strips(rows, [f"{value:+g}" for value in values.tolist()], zoom=zoom(self.space.x_shape, SMALL))

    def _move(self, slider: ipywidgets.FloatSlider, value: float) -> None:
        self.z = self.directions()[slider].turned(self.z, torch.tensor(value))
        self.show(moved=slider)

    def _draw(self) -> None:
        """z from the prior, of this seed."""
        self.start(same_noise(self.seed.value, len(self.space.mean)))

    def _next(self, _) -> None:
        self.seed.value = (self.seed.value + 1) % (self.seed.max + 1)

    def _back(self, _) -> None:
        if self.space is not None:
            with self.quietly():
                self.truncation.value = 1.0
            self.start(self._start)


def _layout(width: str) -> dict[str, str]:
    return {"width": width, "flex": "0 0 auto"}


def _slider(name: str) -> ipywidgets.FloatSlider:
    """With a name before it, it is as wide as one without is beside a drop-down."""
    look = {"layout": _layout(SLIDER)}
    if name:
        look = {"layout": _layout(f"calc({NAME} + {SLIDER} + 4px)"), "style": {"description_width": NAME}}
    return ipywidgets.FloatSlider(0.0, min=-REACH, max=REACH, step=STEP, description=name, readout_format=".1f", **look)
