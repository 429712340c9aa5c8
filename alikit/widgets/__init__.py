"""What people touch: panels for JupyterLab, over recorded runs and models just trained. They need ipywidgets.

Sliders("../results")                                                every recorded run, in a drop-down
Sliders("../results", {"mine": described(model, train, held_out)})   and a model of your own, see `alikit.runs.records`
Switches(model, train.classes, train.labels[0])                      a switch for each attribute of a conditional model
"""

from .between import Between
from .pencil import Pencil
from .sliders import Sliders
from .switches import Switches

__all__ = ["Between", "Pencil", "Sliders", "Switches"]
