"""What x is. Every source returns a `Dataset`; `load` finds one by the name the command line uses."""

from .dataset import Dataset
from .faces import faces, faces_with
from .images import image_folder
from .mixture import GridMixture
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .rendered import house_numbers
from .shapes import coloured_shapes
from .sources import SOURCES, digits, load
from .tables import image_table

__all__ = [
    "SOURCES",
    "Dataset",
    "GridMixture",
    "celeba",
    "cifar10",
    "coloured_shapes",
    "digits",
    "faces",
    "faces_with",
    "house_numbers",
    "image_folder",
    "image_table",
    "imagenet",
    "load",
    "svhn",
    "tiny_imagenet",
]
