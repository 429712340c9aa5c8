"""What x is. Every source returns a `Dataset`; `load` finds one by the name the command line uses.

Arrays and tensors need no reader: Dataset("mine", x, labels, classes) checks them.
"""

from .dataset import Dataset
from .folders import image_folder
from .published import celeba, cifar10, imagenet, svhn, tiny_imagenet
from .sources import SOURCES, digits, load
from .synthetic.digits import drawn_digits
from .synthetic.faces import faces, faces_with
from .synthetic.house_numbers import house_numbers
from .synthetic.mixture import GridMixture
from .synthetic.shapes import coloured_shapes
from .tables import image_table

__all__ = [
    "SOURCES", "Dataset", "GridMixture", "celeba", "cifar10", "coloured_shapes", "digits", "drawn_digits", "faces",
    "faces_with", "house_numbers", "image_folder", "image_table", "imagenet", "load", "svhn", "tiny_imagenet",
]  # fmt: skip
