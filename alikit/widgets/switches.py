"""The panel of switches: what a conditional model is told, attribute by attribute."""

import html
from collections.abc import Mapping, Sequence
from functools import partial

import ipywidgets
import torch
from PIL import Image
from torch import Tensor

from ..data.conditions import switched
from ..errors import AlikitError
from ..figures import grid, strips
from ..models import Game
from .panel import BIG, SMALL, Telling, fill, frame, same_noise, zoom

CARD = "156px"  # how wide: room for a tick and Mouth Slightly Open
GIVEN = "as given"  # what the y that a panel is made with is called among its starts


class Switches(Telling, ipywidgets.HBox):
    """Gx(z, y) as a picture, with a switch for each attribute in y, and for z a seed to draw it by.

    model   conditional, of A attributes
    names   of the attributes, in the order of y: the `classes` of the data
    y       (A,) of 0 and 1, what is on at first, and again after "back"
    z       (Z,), the code to begin with, of a picture that was encoded say; by default the prior's of seed 0
    starts  further y by name, to choose from
    ahead   whether each switch has above it the picture that it would lead to, as its box is ticked at first. That is
            A more pictures to decode at every move: too many for a large model without a GPU

    A hair colour that is switched on switches the others off, see `switched`. `z`, `y` and `seed` are what is shown,
    and can be set; a z that was given has no seed, None. AlikitError for a model that is told nothing, and for names, y
    and z that do not fit it. What goes wrong when a control is moved is said in the panel, in one line.
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
            raise AlikitError(
                "this model is told nothing beside x, so there is nothing to switch: train a conditional one"
            )
        if len(names) != model.attributes:
            raise AlikitError(
                f"{len(names)} names for a model of {model.attributes} attributes: give the classes of its data"
            )
        self.model, self.names = model, tuple(names)
        self._starts = {GIVEN: self._y_of(y)} | {name: self._y_of(y, f"{name}: ") for name, y in (starts or {}).items()}
        self._y, self._given = self._starts[GIVEN], None if z is None else self._z_of(z)
        self._seed: int | None = None
        super().__init__(self._build(ahead))
        self._z = same_noise(0, model.z_dim)
        self.x_shape = tuple(model.decode(self._z[None], y=self._y).shape[1:])
        if len(self.x_shape) != 3:
            raise AlikitError("the examples of this model are points, and panels show pictures")
        if z is None:
            self._draw()
        else:
            self._take()

    def _build(self, ahead: bool) -> list[ipywidgets.Widget]:
        self.picture, self.words = frame(BIG), ipywidgets.HTML(layout={"width": f"{BIG}px"})
        self.message = ipywidgets.HTML(layout={"width": f"{BIG}px", "min_height": "32px"})
        self.start = ipywidgets.Dropdown(options=list(self._starts), description="start", style=_narrow("40px"))
        self.start.layout = _layout(f"{BIG}px") | {"display": None if len(self._starts) > 1 else "none"}
        self.number = ipywidgets.BoundedIntText(
            0, min=0, max=9999, description="seed", layout=_layout("120px"), style=_narrow("40px")
        )
        self.another = ipywidgets.Button(description="new z", icon="random", layout=_layout("128px"))
        self.back = ipywidgets.Button(description="back", icon="undo", layout=_layout("120px"))
        self.given = ipywidgets.Button(description="z as given", icon="image", layout=_layout("128px"))
        self.back.tooltip, self.given.tooltip = "the switches as they were at the start", "the code that was given"
        self.ahead = ipywidgets.Checkbox(
            ahead, description="what each switch would do", indent=False, layout=_layout("auto")
        )
        look = {"layout": _layout(CARD) | {"padding": "0 4px"}}
        self.switches = [ipywidgets.ToggleButton(tooltip=name, **look) for name in self.names]
        self.previews = [frame(SMALL) for _ in self.names]
        for preview in self.previews:
            preview.layout.align_self = "center"
        for column, switch in enumerate(self.switches):
            self._answer(switch, partial(self._switch, column))
        self._answer(self.start, lambda _: self._back())
        self._answer(self.number, lambda _: self._draw())
        self._answer(self.ahead, lambda _: self.show())
        for button, act in ((self.another, self._next), (self.back, self._back), (self.given, self._take)):
            button.on_click(partial(self._clicked, act))
        left = [
            self.picture,
            self.start,
            ipywidgets.HBox([self.number, self.another]),
            ipywidgets.HBox([self.back, self.given]),
            self.words,
            self.message,
        ]
        cards = [
            ipywidgets.VBox(card, layout={"margin": "0 4px 8px 0"})
            for card in zip(self.previews, self.switches, strict=True)
        ]
        right = [self.ahead, ipywidgets.HBox(cards, layout={"flex_flow": "row wrap"})]
        return [
            ipywidgets.VBox(left, layout={"flex": "0 0 auto", "margin": "0 16px 0 0"}),
            ipywidgets.VBox(right, layout={"flex": "1 1 0", "min_width": CARD}),
        ]

    @property
    def y(self) -> Tensor:
        """(A,) uint8."""
        return self._y

    @y.setter
    def y(self, y: Tensor) -> None:
        self._y = self._y_of(y)
        self.show()

    @property
    def z(self) -> Tensor:
        """(Z,)."""
        return self._z

    @z.setter
    def z(self, z: Tensor) -> None:
        self._given = self._z_of(z)
        self._take()

    @property
    def seed(self) -> int | None:
        """By which z was drawn from the prior."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        with self.quietly():
            self.number.value = seed
        self._draw()

    def show(self) -> None:
        """Draws the picture and, in the same pass, what each switch would make of it, and puts the switches to y."""
        ys = [self._y, *(self._with(column, not on) for column, on in enumerate(self._y))]
        ys = torch.stack(ys if self.ahead.value else ys[:1])
        x = self.model.decode(self._z.expand(len(ys), -1), y=ys)
        fill(self.picture, grid(x[:1], zoom=zoom(self.x_shape, BIG)))
        for preview, would_be in zip(self.previews, x[1:], strict=False):
            fill(preview, grid(would_be[None], zoom=zoom(self.x_shape, SMALL)))
        self._say_what_is_on()

    def sheet(self) -> Image.Image:
        """What the switches do, as one picture: for each, z with it off and with it on, all else as it is shown."""
        ys = torch.stack([self._with(column, on) for column in range(len(self.names)) for on in (False, True)])
        x = self.model.decode(self._z.expand(len(ys), -1), y=ys)
        rows = dict(zip(map(_in_words, self.names), x.split(2), strict=True))
        return strips(rows, ["off", "on"], zoom=zoom(self.x_shape, SMALL))

    def _with(self, column: int, on: bool) -> Tensor:
        return switched(self._y, [("" if on else "-") + self.names[column]], self.names)

    def _say_what_is_on(self) -> None:
        on = [_in_words(name) for name, value in zip(self.names, self._y, strict=True) if value]
        origin = "z as given" if self._seed is None else f"z of seed {self._seed}"
        what = html.escape(", ".join(on)) or "nothing"
        self.words.value = f'<div style="line-height:1.4"><b>on:</b> {what}<br>{origin}</div>'
        self.given.layout.display = None if self._given is not None else "none"
        with self.quietly():
            for name, value, switch, preview in zip(self.names, self._y, self.switches, self.previews, strict=True):
                switch.value = bool(value)
                # A mark too: a colour alone is not seen by everyone.
                switch.description = ("✓ " if value else "") + _in_words(name)
                switch.button_style = "primary" if value else ""
                preview.layout.display = None if self.ahead.value else "none"

    def _answer(self, control: ipywidgets.Widget, act) -> None:
        """Lets act(value) answer each change of a control's value that a person makes."""

        def answered(change: dict) -> None:
            if not self._quiet:
                with self.telling():
                    act(change["new"])

        control.observe(answered, "value")

    def _clicked(self, act, _) -> None:
        with self.telling():
            act()

    def _switch(self, column: int, on: bool) -> None:
        self._y = self._with(column, on)
        self.show()

    def _draw(self) -> None:
        """z from the prior, of the seed that stands there."""
        self._seed = self.number.value
        self._z = same_noise(self._seed, self.model.z_dim)
        self.show()

    def _next(self) -> None:
        if self._seed is not None:  # where z was given, the seed that stands there has not been drawn
            with self.quietly():
                self.number.value = (self._seed + 1) % (self.number.max + 1)
        self._draw()

    def _back(self) -> None:
        self._y = self._starts[self.start.value]
        self.show()

    def _take(self) -> None:
        self._z, self._seed = self._given, None
        self.show()

    def _y_of(self, y: Tensor, whose: str = "") -> Tensor:
        """y as one (A,) uint8, apart from what the caller does with it."""
        wanted = f"{self.model.attributes} numbers, each 0 or 1"
        try:
            y = torch.as_tensor(y).detach().cpu().flatten()
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError(f"{whose}y is a tensor of {wanted}") from None
        if len(y) != self.model.attributes:
            raise AlikitError(f"{whose}y is {wanted}, and here are {len(y)}")
        if not ((y == 0) | (y == 1)).all():
            raise AlikitError(f"{whose}y is {wanted}, and here is one that is neither: a switch is off or on")
        return y.to(torch.uint8, copy=True)

    def _z_of(self, z: Tensor) -> Tensor:
        """z as one code (Z,), apart from what the caller does with it."""
        wanted = self.model.z_dim
        try:
            z = torch.as_tensor(z, dtype=torch.float32).detach().cpu().flatten().clone()
        except (TypeError, ValueError, RuntimeError):
            raise AlikitError(f"a code of this model is a tensor of {wanted} numbers") from None
        if len(z) != wanted:
            raise AlikitError(f"a code of this model has {wanted} numbers, not {len(z)}")
        if not z.isfinite().all():
            raise AlikitError("this code holds something that is no number, so there is nothing to show")
        return z


def _in_words(name: str) -> str:
    return name.replace("_", " ")


def _layout(width: str) -> dict[str, str]:
    return {"width": width, "flex": "0 0 auto"}


def _narrow(width: str) -> dict[str, str]:
    return {"description_width": width}
