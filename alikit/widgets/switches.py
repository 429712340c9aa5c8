"""The panel of switches: one for each attribute of a conditional model."""

import html
from collections.abc import Mapping, Sequence

import PIL.Image
import torch
from ipywidgets import HTML, BoundedIntText, Button, Checkbox, Dropdown, HBox, ToggleButton, VBox
from torch import Tensor
from traitlets import Any, validate

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
    starts  further y by name, to choose from; one that does not fit is a message in the panel when it is chosen

    Above each switch is the picture that it would lead to, unless a box is unticked: these are A more pictures at every
    move, too many for a large model without a GPU. Switching a hair colour on switches the others off, see `switched`.
    `y` and `z` are what is shown, and can be set. AlikitError for a model and names, y and z that do not go together.
    """

    y = Any()  # (A,) uint8
    z = Any()  # (Z,)

    def __init__(
        self,
        model: Game,
        names: Sequence[str],
        y: Tensor,
        z: Tensor | None = None,
        starts: Mapping[str, Tensor] | None = None,
    ):
        if not model.attributes or len(names) != model.attributes:
            wanted = f"this panel needs a model that is conditional on its {len(names)} names"
            raise AlikitError(f"{wanted}, and this one has {model.attributes} attributes: choose another")
        self.model, self.names, self._given = model, tuple(names), None
        self._words = [name.replace("_", " ") for name in names]
        self._starts = {GIVEN: y, **(starts or {})}
        narrow, side = {"description_width": "40px"}, f"{BIG}px"
        self.picture, self.words = frame(BIG), HTML(layout={"width": side})
        self.message = HTML(layout={"width": side, "min_height": "32px"})
        self.start = Dropdown(options=list(self._starts), description="start", style=narrow, layout=fixed(side))
        self.start.layout.display = None if starts else "none"
        self.number = BoundedIntText(0, min=0, max=9999, description="seed", layout=fixed("120px"), style=narrow)
        self.another = Button(description="new z", icon="random", layout=fixed("128px"))
        self.back = Button(description="back", icon="undo", layout=fixed("120px"))
        self.given = Button(description="z as given", icon="image", layout=fixed("128px"))
        self.back.tooltip, self.given.tooltip = "the switches as they were at the start", "the code that was given"
        self.ahead = Checkbox(True, description="what each switch would do", indent=False, layout=fixed("auto"))
        self.switches = [ToggleButton(tooltip=name, layout=fixed(CARD) | {"padding": "0 4px"}) for name in self.names]
        self.previews = [frame(SMALL) for _ in self.names]
        for column, (switch, preview) in enumerate(zip(self.switches, self.previews, strict=True)):
            preview.layout.align_self = "center"
            self.answer(self._switch, switch, of=(column,))
        self.answer(self._back, self.start, self.back)
        self.answer(self._draw, self.number)
        self.answer(self._next, self.another)
        self.answer(self._take, self.given)
        self.answer(self.show, self.ahead)
        buttons = [HBox([self.number, self.another]), HBox([self.back, self.given])]
        left = [self.picture, self.start, *buttons, self.words, self.message]
        pairs, air = zip(self.previews, self.switches, strict=True), {"margin": "0 4px 8px 0"}
        cards = HBox([VBox(pair, layout=air) for pair in pairs], layout={"flex_flow": "row wrap"})
        left = VBox(left, layout={"flex": "0 0 auto", "margin": "0 16px 0 0"})
        super().__init__([left, VBox([self.ahead, cards], layout={"flex": "1 1 0", "min_width": CARD})])
        self.y = y
        self._starts[GIVEN] = self.y
        self.observe(lambda _: self.show(), ["y", "z"])
        self.z = same_noise(0, model.z_dim) if z is None else z

    def close(self) -> None:
        self.model = None
        super().close()

    @validate("y")
    def _one_y(self, proposal) -> Tensor:
        y = torch.as_tensor(proposal.value).detach().cpu().flatten()
        if len(y) != self.model.attributes or not ((y == 0) | (y == 1)).all():
            raise AlikitError(f"y is a tensor of {self.model.attributes} numbers, 0 for off and 1 for on")
        return y.to(torch.uint8, copy=True)

    @validate("z")
    def _one_z(self, proposal) -> Tensor:
        return one_code(proposal.value, self.model.z_dim)

    @property
    def seed(self) -> int | None:
        """The seed in the panel, if z was drawn by it; None for a z that was given."""
        seed = self.number.value
        return seed if torch.equal(self.z, same_noise(seed, len(self.z))) else None

    def show(self) -> None:
        """Draws the picture and, in the same pass, what each switch would make of it, and sets the switches to y."""
        ahead = [self._with(a, not on) for a, on in enumerate(self.y)] if self.ahead.value else []
        x = self._decode([self.y, *ahead])
        if x.ndim != 4:
            raise AlikitError("the examples of this model are points, and panels show pictures")
        draw(self.picture, x[:1], BIG)
        for preview, picture in zip(self.previews, x[1:, None], strict=False):
            draw(preview, picture, SMALL)
        on = ", ".join(word for word, value in zip(self._words, self.y, strict=True) if value)
        if self.seed is None:
            self._given = self.z
        origin = "z as given" if self.seed is None else f"z of seed {self.seed}"
        words = f"<b>on:</b> {html.escape(on) or 'nothing'}<br>{origin}"
        self.words.value = f'<div style="line-height:1.4">{words}</div>'
        self.given.layout.display = None if self._given is not None else "none"
        for word, value, switch, preview in zip(self._words, self.y, self.switches, self.previews, strict=True):
            switch.value = bool(value)
            switch.description = ("✓ " if value else "") + word  # not everyone sees a colour alone
            switch.button_style = "primary" if value else ""
            preview.layout.display = None if self.ahead.value else "none"

    def sheet(self) -> PIL.Image.Image:
        """What the switches do, as one picture: for each attribute z with it off and on, all else as it is shown."""
        x = self._decode([self._with(column, on) for column in range(len(self.names)) for on in (False, True)])
        return sheet(dict(zip(self._words, x.split(2), strict=True)), ["off", "on"])

    def _decode(self, ys: list[Tensor]) -> Tensor:
        return self.model.decode(self.z.expand(len(ys), -1), y=torch.stack(ys))

    def _with(self, column: int, on: bool) -> Tensor:
        if on:
            return switched(self.y, [self.names[column]], self.names)
        return self.y.index_fill(0, torch.tensor(column), 0)  # by number, because -1 may be a name as 1 is

    def _switch(self, column: int) -> None:
        on = self.switches[column].value
        if on != self.y[column]:  # else it was `show` that moved it
            self.y = self._with(column, on)

    def _back(self) -> None:
        self.y = self._starts[self.start.value]

    def _draw(self) -> None:
        self.z = same_noise(self.number.value, len(self.z))

    def _next(self) -> None:
        if self.seed is not None:  # else the seed in the panel has not been drawn yet
            self.number.value = (self.seed + 1) % (self.number.max + 1)
        self._draw()

    def _take(self) -> None:
        self.z = self._given
