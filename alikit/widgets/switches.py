"""The panel of switches: one for each attribute of a conditional model."""

import html
from collections.abc import Mapping, Sequence
from functools import partial

import PIL.Image
import torch
from ipywidgets import HTML, BoundedIntText, Button, Checkbox, Dropdown, HBox, ToggleButton, VBox, Widget
from torch import Tensor

from ..data.conditions import switched
from ..errors import AlikitError
from ..latent import one_code
from ..models import Game
from .panel import BIG, SMALL, Answering, draw, fixed, frame, same_noise, sheet

CARD = "156px"  # the width of a switch: room for a tick and Mouth Slightly Open
GIVEN = "as given"  # the name, among the starts, of the y that a panel is made with


class Switches(Answering, HBox):
    """Gx(z, y) as a picture, with a switch for each attribute in y and a seed to draw z by.

    model   conditional on A attributes
    names   of the attributes, in the order of y: the `classes` of the data
    y       (A,) of 0 and 1, what is on at first, and again after "back"
    z       (Z,), the code to begin with, for example of an encoded picture; by default the prior's by seed 0
    starts  further y by name, to choose from
    ahead   whether the picture that each switch would lead to stands above it at first. That decodes A more pictures at
            every move, too many for a large model without a GPU

    Switching a hair colour on switches the others off, see `switched`. `y` (A,) uint8, `z` (Z,) and `seed` are what is
    shown, `seed` None for a z that was given; after setting one, call `show`. AlikitError for a model that is not
    conditional, and for names, y and z that do not fit it. What goes wrong later is said in the panel, in one line.
    """

    def __init__(
        self,
        model: Game,
        names: Sequence[str],
        y: Tensor,
        z: Tensor | None = None,
        starts: Mapping[str, Tensor] | None = None,
        ahead: bool = True,
    ):
        if not model.attributes:
            raise AlikitError("this model is not conditional, so there is nothing to switch: train one that is")
        if len(names) != model.attributes:
            many = f"{len(names)} names for a model of {model.attributes} attributes"
            raise AlikitError(f"{many}: give the classes of its data")
        self.model, self.names, self._starts = model, tuple(names), {}
        for name, start in {GIVEN: y, **(starts or {})}.items():
            start = torch.as_tensor(start).detach().cpu().flatten()
            if len(start) != model.attributes or not ((start == 0) | (start == 1)).all():
                raise AlikitError(f"y {name} is not {model.attributes} numbers, 0 for off and 1 for on")
            self._starts[name] = start.to(torch.uint8, copy=True)
        self.y, self._given = self._starts[GIVEN], None if z is None else one_code(z, model.z_dim)
        super().__init__(self._build(ahead))
        self._draw() if z is None else self._take()

    def _build(self, ahead: bool) -> list[Widget]:
        narrow, side = {"description_width": "40px"}, f"{BIG}px"
        self.picture, self.words = frame(BIG), HTML(layout={"width": side})
        self.message = HTML(layout={"width": side, "min_height": "32px"})
        self.start = Dropdown(options=list(self._starts), description="start", style=narrow, layout=fixed(side))
        self.start.layout.display = None if len(self._starts) > 1 else "none"
        self.number = BoundedIntText(0, min=0, max=9999, description="seed", layout=fixed("120px"), style=narrow)
        self.another = Button(description="new z", icon="random", layout=fixed("128px"))
        self.back = Button(description="back", icon="undo", layout=fixed("120px"))
        self.given = Button(description="z as given", icon="image", layout=fixed("128px"))
        self.back.tooltip, self.given.tooltip = "the switches as they were at the start", "the code that was given"
        self.ahead = Checkbox(ahead, description="what each switch would do", indent=False, layout=fixed("auto"))
        look = fixed(CARD) | {"padding": "0 4px"}
        self.switches = [ToggleButton(tooltip=name, layout=look) for name in self.names]
        self.previews = [frame(SMALL) for _ in self.names]
        for column, (switch, preview) in enumerate(zip(self.switches, self.previews, strict=True)):
            preview.layout.align_self = "center"
            self.answer(partial(self._switch, column), switch)
        self.answer(self._back, self.start, self.back)
        self.answer(self._draw, self.number)
        self.answer(self._next, self.another)
        self.answer(self._take, self.given)
        self.answer(self.show, self.ahead)
        buttons = [HBox([self.number, self.another]), HBox([self.back, self.given])]
        left = [self.picture, self.start, *buttons, self.words, self.message]
        cards = [
            VBox(card, layout={"margin": "0 4px 8px 0"}) for card in zip(self.previews, self.switches, strict=True)
        ]
        right = [self.ahead, HBox(cards, layout={"flex_flow": "row wrap"})]
        return [
            VBox(left, layout={"flex": "0 0 auto", "margin": "0 16px 0 0"}),
            VBox(right, layout={"flex": "1 1 0", "min_width": CARD}),
        ]

    def show(self) -> None:
        """Draws the picture and, in the same pass, what each switch would make of it, and sets the switches to y."""
        ahead = [self._with(a, not on) for a, on in enumerate(self.y)] if self.ahead.value else []
        x = self._decode([self.y, *ahead])
        if x.ndim != 4:
            raise AlikitError("the examples of this model are points, and panels show pictures")
        draw(self.picture, x[:1], BIG)
        for preview, picture in zip(self.previews, x[1:, None], strict=False):
            draw(preview, picture, SMALL)
        on = ", ".join(_in_words(name) for name, value in zip(self.names, self.y, strict=True) if value)
        origin = "z as given" if self.seed is None else f"z of seed {self.seed}"
        words = f"<b>on:</b> {html.escape(on) or 'nothing'}<br>{origin}"
        self.words.value = f'<div style="line-height:1.4">{words}</div>'
        self.given.layout.display = None if self._given is not None else "none"
        with self.quietly():
            for name, value, switch, preview in zip(self.names, self.y, self.switches, self.previews, strict=True):
                switch.value = bool(value)
                switch.description = ("✓ " if value else "") + _in_words(name)  # not everyone sees a colour alone
                switch.button_style = "primary" if value else ""
                preview.layout.display = None if self.ahead.value else "none"

    def sheet(self) -> PIL.Image.Image:
        """What the switches do, as one picture: for each attribute z with it off and on, all else as it is shown."""
        x = self._decode([self._with(column, on) for column in range(len(self.names)) for on in (False, True)])
        return sheet(dict(zip(map(_in_words, self.names), x.split(2), strict=True)), ["off", "on"])

    def _decode(self, ys: list[Tensor]) -> Tensor:
        return self.model.decode(self.z.expand(len(ys), -1), y=torch.stack(ys))

    def _with(self, column: int, on: bool) -> Tensor:
        return switched(self.y, [("" if on else "-") + self.names[column]], self.names)

    def _switch(self, column: int) -> None:
        self.y = self._with(column, self.switches[column].value)
        self.show()

    def _back(self) -> None:
        self.y = self._starts[self.start.value]
        self.show()

    def _draw(self) -> None:
        """z from the prior, by the seed that stands in the panel."""
        self.z, self.seed = same_noise(self.number.value, self.model.z_dim), self.number.value
        self.show()

    def _next(self) -> None:
        if self.seed is not None:  # for a z that was given, the seed in the panel has not been drawn yet
            with self.quietly():
                self.number.value = (self.seed + 1) % (self.number.max + 1)
        self._draw()

    def _take(self) -> None:
        self.z, self.seed = self._given, None
        self.show()


def _in_words(name: str) -> str:
    return name.replace("_", " ")
