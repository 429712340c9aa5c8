"""alikit: Adversarially Learned Inference (ALI, also BiGAN), small enough to read and ready to run.

train, held_out = alikit.load("digits")
model = alikit.RECIPES["digits"].build(train.shape, train.mean())
alikit.Trainer(model, train, lr=2e-3, decay=True).run(steps=2000)
model.sample(10), model.reconstruct(held_out.floats())
"""

from .data import Dataset, GridMixture, digits, house_numbers, image_folder, load
from .errors import AlikitError
from .models import ALI, GAN, VAE, Game, InverseMapping, inverse_mapping, mix, post_hoc_inference
from .recipes import RECIPES, Recipe
from .runs import load_model
from .training import Progress, Trainer

__version__ = "0.1.0"

__all__ = [
    "ALI",
    "GAN",
    "RECIPES",
    "VAE",
    "AlikitError",
    "Dataset",
    "Game",
    "GridMixture",
    "InverseMapping",
    "Progress",
    "Recipe",
    "Trainer",
    "digits",
    "house_numbers",
    "image_folder",
    "inverse_mapping",
    "load",
    "load_model",
    "mix",
    "post_hoc_inference",
]
