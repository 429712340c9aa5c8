"""What x is. Every source returns a `Dataset`; `load` finds one by the name the command line uses."""

from .dataset import Dataset
from .images import image_folder
from .mixture import GridMixture
from .rendered import house_numbers
from .sources import SOURCES, digits, load

__all__ = ["SOURCES", "Dataset", "GridMixture", "digits", "house_numbers", "image_folder", "load"]
