"""alikit: Adversarially Learned Inference (ALI, also BiGAN), small enough to read, ready to run.

    train, held_out = alikit.load("digits")
    recipe = alikit.RECIPES["digits"]
    model = recipe.build(train.shape, train.mean())
    recipe.trainer(model, train).run(recipe.steps)
    model.sample(10), model.reconstruct(held_out.floats())

Every model has the methods of `Game`, and every mistake that you can correct is an `AlikitError`.
"""

import warnings

from . import evaluation, losses, runs, stopping  # the last one keeps an interrupt from breaking torch
from .data import Dataset, GridMixture, digits, faces, faces_with, house_numbers, image_folder, image_table, load
from .errors import AlikitError
from .fast import accelerate
from .models import ALI, GAN, VAE, Game, InverseMapping, inverse_mapping, mix, post_hoc_inference
from .recipes import RECIPES, Recipe, register
from .runs import load_model
from .runs.records import Recorded, recorded
from .semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised
from .training import Config, Progress, Trainer

__version__ = "0.1.0"

# Seven lines on machines with several GPUs, all of whose random states are to be kept.
warnings.filterwarnings("ignore", r"\w+ reports that you have \d+ available devices, and you have used fork_rng")

__all__ = [
    "ALI", "GAN", "RECIPES", "VAE", "AlikitError", "Config", "Dataset", "FeatureMatchingGAN", "Game", "GridMixture",
    "InverseMapping", "KPlusOne", "Progress", "Recipe", "Recorded", "Supervised", "Trainer", "accelerate", "digits",
    "evaluation", "faces", "faces_with", "house_numbers", "image_folder", "image_table", "inverse_mapping", "load",
    "load_model", "losses", "mix", "post_hoc_inference", "recorded", "register", "runs", "stopping",
]  # fmt: skip
