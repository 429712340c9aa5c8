"""What all panels share: messages, the choice of a run, and pictures that change in place."""

import html
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
import PIL.Image
import torch
from ipywidgets import HTML, Button, Dropdown, HBox, VBox, Widget
from torch import Tensor

from .. import runs
from ..errors import AlikitError
from ..figures import grid, strips
from ..latent import LatentSpace
from ..recipes import RECIPES
from ..runs.records import Recorded, recorded

BIG, SMALL = 256, 64  # pixels a side, about: of the large picture, and of one in a strip


class Answering:
    """A panel that answers its controls, and shows in `message`, in one line, what went wrong."""

    message: HTML
    _acting = False

    def answer(self, act: Callable[[], None], *controls: Widget) -> None:
        """Calls act() when a person clicks one of the buttons or changes the value of one of the other controls."""

        def answered(_) -> None:
            if not self._acting:
                with self.acting():
                    act()

        for control in controls:
            if isinstance(control, Button):
                control.on_click(answered)
            else:
                control.observe(answered, "value")

    @contextmanager
    def acting(self) -> Iterator[None]:
        """For the block, controls that the panel itself moves are not answered, and an error becomes its message: in
        the callback of a widget nobody would see it."""
        if self._acting:
            yield
            return
        self._acting = True
        self.say("")
        try:
            yield
        except Exception as error:
            self.say(str(error) if isinstance(error, AlikitError) else f"{type(error).__name__}: {error}")
        finally:
            self._acting = False

    def say(self, what: str) -> None:
        """Shows a message; "" removes it."""
        self.message.value = f'<span style="color:#b3261e">{html.escape(what)}</span>' if what else ""


class Panel(Answering, VBox):
    """A drop-down of runs and a line for messages. A panel adds its controls in `build`, and shows a run in `opened`.

    results  folder of recorded runs. All are offered, also damaged ones, but not conditional ones: see `Switches`
    models   further runs by name, as `alikit.runs.records.described` makes them; they come first
    first    name of the run to begin with; by default the first that can be opened

    A run that cannot be opened leaves the panel as it is, with a message.
    """

    def __init__(
        self, results: str | Path | None = None, models: Mapping[str, Recorded] | None = None, first: str | None = None
    ):
        folders = sorted(file.parent for file in Path(results).glob("*/settings.json")) if results else []
        recorded_runs = {folder.name: folder for folder in folders if not _is_conditional(folder)}
        self._runs: dict[str, Recorded | Path] = {**(models or {}), **recorded_runs, **(models or {})}
        self._space: LatentSpace | None = None
        self._name: str | None = None  # of the run that is open
        self.run = Dropdown(options=list(self._runs), value=None, description="run")
        self.message = HTML(layout={"min_height": "32px"})
        super().__init__([HBox([self.run, self.message]), *self.build()])
        self.answer(self._open, self.run)
        for name in [first] if first in self._runs else self._runs:
            self.run.value = name
            if self._space:
                break
        if not self._runs:
            self.say(f"no recorded run in {results}: record one with alikit record, or give models by name")
        elif first not in (None, *self._runs):
            self.say(f"no run called {first}: there are {', '.join(self._runs)}")

    @property
    def space(self) -> LatentSpace:
        """The latent space of the run that is open. AlikitError where none is."""
        if self._space is None:
            raise AlikitError("no run is open: choose one")
        return self._space

    def _open(self) -> None:
        name = self.run.value
        try:
            run = self._runs[name]
            space = LatentSpace(recorded(run) if isinstance(run, Path) else run)
            if len(space.x_shape) != 3:
                raise AlikitError("its examples are points, and panels show pictures")
        except Exception as error:
            self.run.value = self._name
            raise AlikitError(f"{name}: {error}") from None
        self._space, self._name = space, name
        self.opened()


def _is_conditional(folder: Path) -> bool:
    try:
        return RECIPES[runs.read_settings(folder)["recipe"]].is_conditional
    except AlikitError:  # damaged, which is shown when it is chosen
        return False


def frame(side: int) -> ipywidgets.Image:
    """A place for a picture of this height, which stays where it is while pictures change."""
    layout = {"height": f"{side}px", "object_fit": "contain", "flex": "0 0 auto", "align_self": "flex-start"}
    return ipywidgets.Image(format="png", layout=layout)


def draw(place: ipywidgets.Image, x: Tensor, side: int) -> None:
    """Shows a row of pictures (N, C, H, W) in [0, 1] in their place, each about `side` pixels wide."""
    data = io.BytesIO()
    row = grid(x, len(x), max(1, side // x.shape[-1]))
    row.save(data, "png", compress_level=1)  # quick, as each move of a slider sends one
    place.value = data.getvalue()


def sheet(rows: Mapping[str, Tensor], columns: Sequence[str] = ()) -> PIL.Image.Image:
    """`strips` with pictures of the size of those in a panel's strip."""
    return strips(rows, columns, max(1, SMALL // next(iter(rows.values())).shape[-1]))


def fixed(width: str) -> dict[str, str]:
    """The layout of a control that keeps its width."""
    return {"width": width, "flex": "0 0 auto"}


def same_noise(seed: int, n: int) -> Tensor:
    """n numbers from the prior by this seed. Torch's own generator is left alone."""
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))
