"""How often classes are wrong: of a model that knows them, and of the paper's semi-supervised protocol, a linear L2-SVM
on features (section 4.4, after Radford et al. 2015), beside what the features have to beat."""

import copy
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ..data.dataset import Dataset
from ..data.labels import few_labels, for_settings
from ..errors import AlikitError
from ..models import Game
from ..networks import Maxout
from .probes import Features, applied, component_features

COSTS = np.exp(np.linspace(-20, 20, 50))  # values of C that are tried, as published
ITERATIONS = 1_000  # of one fit at most
FOR_RANDOM = 2_000  # unlabelled examples that set batch norm, at most


@dataclass(frozen=True)
class Classification:
    """How often a model that knows classes is wrong."""

    error: float  # share of examples whose class is not the guessed one, 0..1
    low: float  # its 95 % interval over examples like these (Wilson's)
    high: float
    n: int  # examples


def classification(model: Game, held_out: Dataset) -> Classification:
    """Guesses the class of every held-out example, without dropout and with z_hat = mu (paper section 4.4)."""
    guess = torch.cat([model.classify(x.to(model.device)).argmax(1).cpu() for x in held_out.batches(500)])
    wrong = int((guess != held_out.labels).sum())
    return Classification(wrong / len(guess), *interval(wrong, len(guess)), len(guess))


def interval(wrong: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n examples, of which so many are wrong."""
    from scipy.stats import binomtest  # comes with scikit-learn; half a second to import: only where it is used

    return tuple(map(float, binomtest(wrong, n).proportion_ci(method="wilson")))


@dataclass(frozen=True)
class Draws:
    """Test errors of one kind of features over draws of the labelled examples."""

    errors: tuple[float, ...]  # share of held-out examples that each draw's SVM gets wrong, 0..1
    cost: float  # C, chosen on the first draw
    validation: float  # the error on the validation examples with which it was chosen
    unconverged: int  # draws whose fit was stopped after 1,000 iterations
    dims: int  # F
    n: int  # held-out examples

    @property
    def error(self) -> float:
        """The mean over draws."""
        return float(np.mean(self.errors))

    @property
    def std(self) -> float:
        """The standard deviation over draws, not a number for a single one."""
        return float(np.std(self.errors, ddof=1)) if len(self.errors) > 1 else math.nan


def svm(features: Features, train: Dataset, held_out: Dataset, labels: int, draws: int | Iterable[int] = 100) -> Draws:
    """Draws `labels` training examples, as many of each class, fits an L2-SVM to their features, and counts its errors
    on the held-out examples; again for every draw.

    draws  how many, or their seeds: a seed's draw is the same for all features, and for recipes with labels

    C is chosen once, on the first draw, by the error on a fifth of the training examples, at most 10,000, that are in
    no draw; of equally good ones the middle. AlikitError where `labels` cannot be drawn, see `Dataset.labelled`.
    """
    chosen = [few_labels(train, labels, seed) for seed in (range(draws) if isinstance(draws, int) else draws)]
    validation = for_settings(train)
    errors, _ = zip(*_fits(features, chosen[0], COSTS, applied(features, validation), validation.labels), strict=True)
    best = np.flatnonzero(np.array(errors) == min(errors))
    cost, test = float(COSTS[best[len(best) // 2]]), applied(features, held_out)
    fits = [fit for few in chosen for fit in _fits(features, few, [cost], test, held_out.labels)]
    test_errors, stopped = zip(*fits, strict=True)
    return Draws(test_errors, cost, min(errors), sum(stopped), test.shape[1], len(test))


def _fits(features: Features, few: Dataset, costs: Iterable[float], v: np.ndarray, labels: Tensor) -> list[tuple]:
    """Fits an L2-SVM to the features of a few examples at each cost: its error on v (N, F) with these labels (N,), and
    whether the fit was stopped before its end."""
    from sklearn.svm import LinearSVC  # a second to import: only where it is used

    own, found = applied(features, few).astype(np.float64), []
    if not np.isfinite(own).all():
        raise AlikitError("an SVM needs features that are numbers, and this network gives others: train it again")
    turned, back = own, None
    if own.shape[0] < own.shape[1]:
        # An SVM only knows inner products. These are kept when (M, F) features are turned so that all but the first M
        # numbers are 0: M = 1,000 examples cost the same with 17,000 features as with 1,000. Weights are turned back.
        variances, directions = np.linalg.eigh(own @ own.T)
        kept = variances > 1e-12 * variances[-1]
        scale = np.sqrt(variances[kept])
        turned, back = directions[:, kept] * scale, directions[:, kept] / scale
    for cost in costs:
        machine = LinearSVC(C=cost, dual=True, max_iter=ITERATIONS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge is counted
            machine.fit(turned, few.labels.numpy())
        weight, bias = machine.coef_, machine.intercept_
        if len(machine.classes_) == 2:  # one row tells the second class from the first
            weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
        weight = weight if back is None else weight @ back.T @ own
        guess = (v @ weight.astype(np.float32).T + bias.astype(np.float32)).argmax(1)
        found.append((float((guess != labels.numpy()).mean()), bool(np.max(machine.n_iter_) >= ITERATIONS)))
    return found


def network_features(model: Game, layers: int = 3) -> Features:
    """The last hidden layers of the encoder and its means; of a GAN, which has none, the last hidden layers of D(x).

    As published, a hidden layer is taken as batch norm hands it to the activation; where there is no batch norm, as it
    is before LeakyReLU, or after maxout. With three layers of the SVHN network and its 256 means that makes
    256*4*4 + 512 + 512 + 256 = 5,376 numbers; the paper says 8,960. AlikitError for models without such layers.
    """
    if model.attributes:
        raise AlikitError("a conditional model is told what an SVM is to find out: leave svm out")
    discriminator = getattr(model, "discriminator", None)
    if model.encoder is not None:
        network, heard_in = model.encoder, hidden_layers(model.encoder)[:-1]
    elif discriminator is None:
        raise AlikitError("no encoder and no discriminator, which records leave out: name a run that has one of them")
    elif heard_in := hidden_layers(discriminator.towers[0]):
        network = discriminator.towers[0]
    else:
        network, heard_in = discriminator, hidden_layers(discriminator)[:-1]

    def features(x: Tensor) -> Tensor:
        heard: list[Tensor] = []  # no activation of alikit's is in place, which would change it
        hooks = [layer.register_forward_hook(lambda _, __, said: heard.append(said)) for layer in heard_in[-layers:]]
        try:
            with model.inference():
                out = network(x.to(model.device)) if model.encoder is None else model.encode(x, sample=False)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([v.flatten(1).cpu() for v in (heard if model.encoder is None else [*heard, out])], dim=1)

    return features


def hidden_layers(network: nn.Module) -> list[nn.Module]:
    """For each layer with weights, first to last, the module whose output stands for it."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            found.append(module)
        elif isinstance(module, _BatchNorm | Maxout) and found:
            found[-1] = module
    return found


def pixel_features(x: Tensor) -> Tensor:
    """The examples themselves, (N, F)."""
    return x.flatten(1)


def random_features(model: Game, train: Dataset, seed: int = 0) -> Features:
    """`network_features` of an encoder of the same shape that has learned nothing: PyTorch's own first weights, and
    statistics of batch norm from training examples, without which most of it would be scaled to nothing."""
    untrained = Game(None, model.z_dim, copy.deepcopy(model.encoder))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in untrained.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    update_bn(train.some(FOR_RANDOM).batches(500), untrained.encoder, model.device)
    return network_features(untrained)


def compared(model: Game, train: Dataset, held_out: Dataset, labels: int, draws: int | Iterable[int] = 100) -> dict:
    """`svm` of the model's features and, on the same draws, of what they have to beat: the pixels, as many principal
    components as z has numbers, and where there is an encoder one of the same shape that has learned nothing. One flat
    table of error and std over draws, cost, unconverged and dims, led by "", pixels_, components_ and random_."""
    kinds = {"": network_features(model), "pixels_": pixel_features}
    kinds["components_"] = component_features(train, model.z_dim)
    kinds |= {} if model.encoder is None else {"random_": random_features(model, train)}
    found = {"labels": labels, "n": len(held_out)}
    for name, features in kinds.items():
        of = svm(features, train, held_out, labels, draws)
        found["draws"] = len(of.errors)
        found |= {name + key: getattr(of, key) for key in ("error", "std", "cost", "unconverged", "dims")}
    return found
