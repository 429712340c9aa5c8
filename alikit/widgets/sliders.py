"""The panel of sliders, which show a code and change it."""

import PIL.Image
import torch
from ipywidgets import HTML, BoundedIntText, Button, Dropdown, FloatSlider, HBox, VBox, Widget
from torch import Tensor

from ..latent import Direction, one_code
from .panel import BIG, SMALL, Panel, draw, fixed, frame, same_noise, sheet

AXES, MEANINGS, NEIGHBOURS = 8, 3, 8
# What can be seen at a glance comes first, where a run has it.
PREFERRED = ("Smiling", "Eyeglasses", "Male", "ink, brightness", "position, right", "paper, brightness")
# A browser rounds the values it gets to whole steps and sends them back, as if a person had moved the slider. So it
# gets whole steps only, of a size that binary numbers hold exactly.
STEP, REACH = 0.125, 4.0  # in standard deviations; how far a slider goes to either side
NAME, SLIDER = "150px", "220px"  # widths


class Sliders(Panel):
    """A code z as a picture, with sliders for the leading axes of q(z) and for directions with a meaning.

    Each slider shows its own reading of z (`Direction`). So all of them move with a new z, and those whose readings are
    correlated move together. Below the picture are the held-out codes nearest to z. Truncation shows a code nearer to
    the mean of all codes, and leaves z itself as it is.
    """

    z: Tensor  # (Z,), the code that is shown
    _start: Tensor | None = None  # the code that reset shows

    def build(self) -> list[Widget]:
        self.picture, self.strip = frame(BIG), frame(SMALL)
        span = {"min": -REACH, "max": REACH, "step": STEP, "readout_format": ".1f"}
        named = {"layout": fixed(f"calc({NAME} + {SLIDER} + 4px)"), "style": {"description_width": NAME}}
        self.axes = [FloatSlider(description=f"axis {i + 1}", **span, **named) for i in range(AXES)]
        self.turns = [FloatSlider(layout=fixed(SLIDER), **span) for _ in range(MEANINGS)]
        self.meanings = [Dropdown(layout=fixed(NAME)) for _ in range(MEANINGS)]
        self.qualities = [HTML() for _ in range(MEANINGS)]
        look = {"description": "truncation", "layout": fixed("240px")}
        self.truncation = FloatSlider(1.0, min=0, max=1.5, step=STEP, **look)
        self.seed = BoundedIntText(0, min=0, max=9999, description="seed", layout=fixed("160px"))
        self.another = Button(description="another z", icon="random", layout=fixed("110px"))
        self.reset = Button(description="reset", icon="undo", layout=fixed("80px"))
        for slider in (*self.axes, *self.turns):
            self.answer(self._move, slider, of=(slider,))
        self.answer(self.show, *self.meanings, self.truncation)
        self.answer(self._draw, self.seed)
        self.answer(self._next, self.another)
        self.answer(self._back, self.reset)
        self._rows = [HBox(row) for row in zip(self.meanings, self.turns, self.qualities, strict=True)]
        left = VBox([self.picture, HBox([self.seed, self.another]), HBox([self.truncation, self.reset])])
        below = HTML("the nearest held-out codes, decoded")
        return [HBox([left, VBox([*self.axes, *self._rows])]), below, self.strip]

    def opened(self) -> None:
        first = [name for name in PREFERRED if name in self.space.meanings]
        names = [*first, *(name for name in self.space.meanings if name not in first)]
        for number, (meaning, row) in enumerate(zip(self.meanings, self._rows, strict=True)):
            meaning.options = names
            meaning.value = names[number] if number < len(names) else None
            row.layout.display = None if meaning.value else "none"
        for number, slider in enumerate(self.axes):
            slider.layout.display = None if number < len(self.space.axes) else "none"
        self.truncation.value = 1.0
        self._draw()

    def start(self, z: Tensor) -> None:
        """Shows the code z (Z,), to which reset returns. One that does not fit the run leaves a message instead."""
        with self.acting():
            self._start = self.z = one_code(z, len(self.space.mean))
            self.show()

    def show(self, moved: FloatSlider | None = None) -> None:
        """Draws z and its neighbours, and sets all sliders to z but the one that is being moved."""
        space = self.space
        nearest = space.codes[space.neighbours(self.z, NEIGHBOURS)]
        z = space.mean + self.truncation.value * (self.z - space.mean)
        x = space.model.decode(torch.cat([z[None], nearest]))
        draw(self.picture, x[:1], BIG)
        draw(self.strip, x[1:], SMALL)
        for slider, direction in self.directions().items():
            if slider is not moved:
                slider.value = STEP * round(direction.reading(self.z).clamp(-REACH, REACH).item() / STEP)
        for meaning, quality in zip(self.meanings, self.qualities, strict=True):
            words = space.meanings[meaning.value].quality if meaning.value else ""
            quality.value = f'<span style="white-space:nowrap">{words}</span>'

    def directions(self) -> dict[FloatSlider, Direction]:
        """What each slider turns."""
        found = dict(zip(self.axes, self.space.axes, strict=False))
        turns = zip(self.turns, self.meanings, strict=True)
        return found | {slider: self.space.meanings[meaning.value] for slider, meaning in turns if meaning.value}

    def sheet(self, columns: int = 7) -> PIL.Image.Image:
        """A row for each slider, which turns z from -3 to 3 standard deviations."""
        values, rows = torch.linspace(-3, 3, columns), {}
        names = dict(zip(self.turns, (meaning.value for meaning in self.meanings), strict=True))
        for slider, direction in self.directions().items():
            name = names.get(slider, slider.description)
            rows[name] = self.space.model.decode(direction.turned(self.z, values))
        return sheet(rows, [f"{value:+g}" for value in values.tolist()])

    def _move(self, slider: FloatSlider) -> None:
        self.z = self.directions()[slider].turned(self.z, torch.tensor(slider.value))
        self.show(moved=slider)

    def _draw(self) -> None:
        self.start(same_noise(self.seed.value, len(self.space.mean)))

    def _next(self) -> None:
        self.seed.value = (self.seed.value + 1) % (self.seed.max + 1)
        self._draw()

    def _back(self) -> None:
        self.truncation.value = 1.0
        self.start(self._start)
