"""What all panels share: messages, the choice of a run, and pictures that change in place."""

import gc
import html
import io
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
import PIL.Image
import torch
from IPython import get_ipython
from ipywidgets import HTML, Button, Dropdown, HBox, VBox, Widget, widget
from torch import Tensor

from .. import runs
from ..errors import AlikitError
from ..figures import grid, strips
from ..latent import LatentSpace
from ..recipes import RECIPES
from ..runs.records import Recorded, recorded

BIG, SMALL = 256, 64  # pixels a side, about: of the large picture, and of one in a strip
_shown: dict[str, tuple[str, list[Widget]]] = {}  # by cell, its latest execution, and the panels that this one shows


def _panels_here() -> list[Widget]:
    """The panels that the cell shows which is running. What it showed before it was run again is gone from the page, so
    neither this list nor IPython's history holds it any more. Outside a notebook nothing is kept."""
    parent = getattr(shell := get_ipython(), "get_parent", dict)()
    if not parent:
        return []
    cell = parent.get("metadata", {}).get("cellId") or parent["content"].get("code", "")  # not all front ends name it
    execution, panels = _shown.setdefault(cell, ("", []))
    if cell and execution != parent["header"]["msg_id"]:
        history = shell.user_ns.get("_oh", {})
        for number in [number for number, shown in history.items() if any(shown is panel for panel in panels)]:
            shell.drop_by_id({f"_{number}": history.pop(number)})
        _shown[cell] = parent["header"]["msg_id"], (panels := [])
    return panels


def weakly(method: Callable) -> Callable:
    """A function that calls the bound method while its object is there, and does not keep the object."""
    kept = weakref.WeakMethod(method)
    return lambda *arguments: (call := kept()) and call(*arguments)


class Answering:
    """A panel that answers its controls, and shows in `message`, in one line, what went wrong.

    ipywidgets keeps every widget until it is closed, and with it the model behind it: a cell that is run again would
    pile up panels. So what ipywidgets keeps of a panel, and what controls call, are weak references. A panel lives as
    long as a name holds it or a cell shows it, and closes its widgets when it goes.
    """

    message: HTML
    _acting = False

    def __init__(self, *args, **traits):
        super().__init__(*args, **traits)
        widget._instances[self.model_id] = weakref.proxy(self)
        self.comm.on_msg(weakly(self._handle_msg))
        _panels_here()
        gc.collect()  # a panel refers to itself, so without this it may stay for long after nothing else does

    def _repr_mimebundle_(self, **how):
        _panels_here().append(self)
        return super()._repr_mimebundle_(**how)

    def close(self) -> None:
        """Closes the panel with every widget in it. Its model is no longer held."""
        below = [self]
        for each in below:
            below += getattr(each, "children", ())
        for part in [part for each in below[1:] for part in (each, getattr(each, "style", None), each.layout)]:
            if part is not None:
                part.close()
        self.layout.close()
        super().close()

    def answer(self, act: Callable[..., None], *controls: Widget, of: tuple = ()) -> None:
        """Calls the panel's own method as act(*of) when a person clicks one of the buttons or changes the value of one
        of the other controls."""
        kept = weakref.WeakMethod(act)

        def answered(_) -> None:
            act = kept()
            if act and not act.__self__._acting:
                with act.__self__.acting():
                    act(*of)

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

    def close(self) -> None:
        self._space, self._name, self._runs = None, None, {}
        super().close()

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
