"""What all panels share: the choice of a run, a place for messages, and pictures that change in place."""

import html
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ipywidgets
import torch
from PIL import Image

from .. import runs
from ..errors import AlikitError
from ..latent import LatentSpace
from ..recipes import RECIPES
from ..runs.records import Recorded, recorded

BIG = 256  # pixels a side of the large picture, about
SMALL = 64  # of one in a strip
BLANK = Image.new("RGB", (SMALL, SMALL), "white")


class Telling:
    """What goes wrong is said in `message`, in one line; and controls that are moved `quietly` are not answered."""

    message: ipywidgets.HTML
    _quiet = False  # while the panel itself moves its controls

    def say(self, what: str) -> None:
        """Shows a message, or with "" takes it away."""
        self.message.value = f'<span style="color:#b3261e">{html.escape(what)}</span>' if what else ""

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Errors inside become the panel's message. In a widget's callback nobody would see them otherwise."""
        self.say("")
        try:
            yield
        except AlikitError as error:
            self.say(str(error))
        except Exception as error:
            self.say(f"{type(error).__name__}: {error}")

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Inside, controls may be moved without being answered."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before


class Panel(Telling, ipywidgets.VBox):
    """A drop-down of runs, a line for messages, and below them what a panel adds in `build` and fills in `opened`.

    results  folder of recorded runs; every one in it can be chosen, damaged ones too, of which the panel then says so;
             but conditional ones, which `Switches` is for
    models   further runs by name, which come first: as `alikit.records.described` gives them
    first    the run to begin with, by name; the first one that can be opened by default

    What goes wrong is said in the panel, in one line, and the panel stays as it was.
    """

    def __init__(
        self,
        results: str | Path | None = None,
        models: Mapping[str, Recorded] | None = None,
        first: str | None = None,
    ):
        self._runs: dict[str, Recorded | Path] = {}
        if results is not None:
            folders = [file.parent for file in sorted(Path(results).glob("*/settings.json"))]
            self._runs = {folder.name: folder for folder in folders if not _is_conditional(folder)}
        self._runs = dict(models or {}) | {name: run for name, run in self._runs.items() if name not in (models or {})}
        self.space: LatentSpace | None = None
        self._name: str | None = None  # of the run that is open
        self.run = ipywidgets.Dropdown(options=list(self._runs), value=None, description="run")
        self.message = ipywidgets.HTML(layout={"min_height": "32px"})
        super().__init__([ipywidgets.HBox([self.run, self.message]), *self.build()])
        self.run.observe(lambda change: self._choose(change["new"]), "value")
        for name in [first] if first in self._runs else self._runs:
            self.run.value = name
            if self.space is not None:
                break
        if not self._runs:
            self.say(_nothing_in(results))
        elif first is not None and first not in self._runs:
            self.say(f"no run called {first}: there are {', '.join(self._runs)}")

    def build(self) -> list[ipywidgets.Widget]:
        """The panel's own controls, made once."""
        raise NotImplementedError

    def opened(self) -> None:
        """Puts the controls to the run that was just opened, `space`, and shows it."""
        raise NotImplementedError

    def need(self) -> LatentSpace:
        """The space of the run that is open. AlikitError where none is."""
        if self.space is None:
            raise AlikitError("no run is open: choose one")
        return self.space

    def answer(self, control: ipywidgets.Widget, act) -> None:
        """Lets act(value) answer each change of a control's value that a person makes."""

        def answered(change: dict) -> None:
            if not self._quiet and self.space is not None:
                with self.telling():
                    act(change["new"])

        control.observe(answered, "value")

    def _choose(self, name: str | None) -> None:
        if self._quiet or name is None:
            return
        before = self.space
        with self.telling():
            run = self._runs[name]
            try:
                self.space = LatentSpace(recorded(run) if isinstance(run, Path) else run)
                if len(self.space.x_shape) != 3:
                    raise AlikitError("its examples are points, and panels show pictures")
            except AlikitError as error:
                self.space = before
                raise AlikitError(f"{name}: {error}") from None
            finally:
                if self.space is before:
                    with self.quietly():
                        self.run.value = self._name
            self._name = name
            self.opened()


def _is_conditional(folder: Path) -> bool:
    try:
        return RECIPES[runs.settings(folder)["recipe"]].is_conditional
    except AlikitError:  # damaged
        return False


def _nothing_in(results: str | Path | None) -> str:
    if results is None:
        return "there is nothing to show: give a folder of recorded runs, or models by name"
    if not Path(results).is_dir():
        return f"{results} is no folder: name the one that recorded runs lie in"
    if (Path(results) / "settings.json").is_file():
        return f"{results} is one run: name the folder it lies in, and choose it by first={Path(results).name!r}"
    return f"no recorded run in {results}: make one with alikit train and alikit record"


def frame(side: int) -> ipywidgets.Image:
    """A place for a picture this high, which keeps its place while pictures change."""
    layout = {"height": f"{side}px", "object_fit": "contain", "flex": "0 0 auto", "align_self": "flex-start"}
    return ipywidgets.Image(format="png", layout=layout)


def fill(place: ipywidgets.Image, picture: Image.Image) -> None:
    """Puts a picture into its place. Packed in haste: it travels once for each move of a slider."""
    data = io.BytesIO()
    picture.save(data, "png", compress_level=1)
    place.value = data.getvalue()


def zoom(x_shape: tuple[int, ...], side: int) -> int:
    """By how much pictures of this shape are enlarged to be about so many pixels a side."""
    return max(1, side // x_shape[-1])


def same_noise(seed: int, n: int) -> torch.Tensor:
    """n numbers of the prior for this seed; torch's own chance is left alone."""
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))
