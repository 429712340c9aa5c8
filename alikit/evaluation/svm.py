"""What a few labels are worth on top of features: the paper's semi-supervised protocol with a linear L2-SVM (section
4.4, after Radford et al. 2015), for any encoder, any data with classes, and what the features have to beat."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable
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

LAYERS = 3  # the last hidden ones of a network, that are features
COSTS = np.exp(np.linspace(-20, 20, 50))  # values of C that are tried, as published
ITERATIONS = 1_000  # of one fit at most
FOR_RANDOM, FOR_COMPONENTS = 2_000, 20_000  # unlabelled examples that set batch norm, or principal components, at most
AT_ONCE = 500  # examples

Features = Callable[[Tensor], Tensor]  # (N, ...) examples as `Dataset.floats` gives them -> (N, F)


@dataclass(frozen=True)
class Draws:
    """Test errors of one kind of features over draws of the labelled examples.

    errors       the share of held-out examples that each draw's SVM gets wrong, 0..1
    cost         C, chosen on the first draw
    validation   the error on the validation examples with which it was chosen
    unconverged  draws whose fit was stopped after 1,000 iterations
    dims         F
    n            held-out examples
    """

    errors: tuple[float, ...]
    cost: float
    validation: float
    unconverged: int
    dims: int
    n: int

    @property
    def error(self) -> float:
        """The mean over draws."""
        return float(np.mean(self.errors))

    @property
    def std(self) -> float:
        """The standard deviation over draws, of which there must be two."""
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
    cost, at_best = _choose(_Few(features, chosen[0]), _all(features, validation), validation.labels.numpy())
    test, truth = _all(features, held_out), held_out.labels.numpy()
    errors, unconverged = [], 0
    for few in chosen:
        weight, bias, stopped = _Few(features, few).fit(cost)
        errors.append(_error(test, weight, bias, truth))
        unconverged += stopped
    return Draws(tuple(errors), cost, at_best, unconverged, test.shape[1], len(truth))


class _Few:
    """The labelled examples' features, turned into as few numbers as there are examples.

    An SVM only knows inner products. These are kept when (M, F) features are turned so that all but the first M numbers
    are 0, and the weights are turned back. So M = 1,000 examples cost the same with 17,000 features as with 1,000.
    """

    def __init__(self, features: Features, few: Dataset):
        self.v, self.labels, self.back = _all(features, few).astype(np.float64), few.labels.numpy(), None
        if not np.isfinite(self.v).all():
            raise AlikitError("an SVM needs features that are numbers, and this network gives others: train it again")
        if self.v.shape[0] < self.v.shape[1]:
            variances, turned = np.linalg.eigh(self.v @ self.v.T)
            kept = variances > 1e-12 * variances[-1]
            scale = np.sqrt(variances[kept])
            self.back = turned[:, kept] / scale, self.v
            self.v = turned[:, kept] * scale

    def fit(self, cost: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Weights (K, F), bias (K,), and whether the fit was stopped before its end."""
        from sklearn.svm import LinearSVC  # a second to import: only where it is used

        machine = LinearSVC(C=cost, dual=True, max_iter=ITERATIONS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge is counted
            machine.fit(self.v, self.labels)
        weight, bias = machine.coef_, machine.intercept_
        if len(machine.classes_) == 2:  # one row tells the second class from the first
            weight, bias = np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
        if self.back is not None:
            turned, v = self.back
            weight = weight @ turned.T @ v
        return weight.astype(np.float32), bias.astype(np.float32), bool(np.max(machine.n_iter_) >= ITERATIONS)


def _choose(few: _Few, validation: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """C, and its error."""
    errors = []
    for cost in COSTS:
        weight, bias, _ = few.fit(cost)
        errors.append(_error(validation, weight, bias, truth))
    best = np.flatnonzero(np.array(errors) == min(errors))
    return float(COSTS[best[len(best) // 2]]), min(errors)


def _error(v: np.ndarray, weight: np.ndarray, bias: np.ndarray, truth: np.ndarray) -> float:
    return float(((v @ weight.T + bias).argmax(1) != truth).mean())


def _all(features: Features, data: Dataset) -> np.ndarray:
    """(N, F) float32, of all examples."""
    return np.concatenate([features(x).numpy() for x in data.batches(AT_ONCE)])


def network_features(model: Game, layers: int = LAYERS) -> Features:
    """The last hidden layers of the encoder and its means; of a GAN, which has none, the last hidden layers of D(x).

    As published, a hidden layer is taken as batch norm hands it to the activation; where there is no batch norm, as it
    is before LeakyReLU, or after maxout. With three layers of the SVHN network and its 256 means that makes
    256*4*4 + 512 + 512 + 256 = 5,376 numbers; the paper says 8,960.
    """
    if model.attributes:
        raise AlikitError("a conditional model is told what an SVM is to find out: leave svm out")
    if model.encoder is not None:
        return _Hidden(model, hidden_layers(model.encoder)[:-1][-layers:], lambda x: model.encode(x, sample=False))
    discriminator = getattr(model, "discriminator", None)
    if discriminator is None:
        raise AlikitError(
            "no features in this model: it has no encoder, and no discriminator, which records leave out: "
            "name a run that has one of them"
        )
    tower = discriminator.towers[0]
    own = hidden_layers(tower) or hidden_layers(discriminator)[:-1]

    def judge(x: Tensor) -> None:
        with model.inference():
            tower(x) if hidden_layers(tower) else discriminator(x)

    return _Hidden(model, own[-layers:], judge)


def hidden_layers(network: nn.Module) -> list[nn.Module]:
    """For each layer with weights, first to last, the module whose output stands for it."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            found.append(module)
        elif isinstance(module, _BatchNorm | Maxout) and found:
            found[-1] = module
    return found


class _Hidden:
    """What some layers say while the model is asked something, and then its answer, if it has one."""

    def __init__(self, model: Game, layers: list[nn.Module], ask: Callable[[Tensor], Tensor | None]):
        self.model, self.layers, self.ask = model, layers, ask

    def __call__(self, x: Tensor) -> Tensor:
        heard: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _, __, output: heard.append(output)) for layer in self.layers]
        try:
            answer = self.ask(x.to(self.model.device))
        finally:
            for hook in hooks:
                hook.remove()
        # An activation in place would have changed what was heard: alikit's networks have none.
        return torch.cat([v.flatten(1).cpu() for v in (*heard, *(() if answer is None else (answer,)))], dim=1)


def pixel_features(x: Tensor) -> Tensor:
    """The examples themselves, (N, F)."""
    return x.flatten(1)


def component_features(train: Dataset, number: int) -> Features:
    """The first principal components of the training examples; fewer than `number` if there are fewer."""
    from sklearn.decomposition import PCA

    flat = _all(pixel_features, train.some(FOR_COMPONENTS))
    fitted = PCA(min(number, *flat.shape), random_state=0).fit(flat)
    return lambda x: torch.from_numpy(fitted.transform(x.flatten(1).cpu().numpy()).astype(np.float32))


def random_features(model: Game, train: Dataset, seed: int = 0) -> Features:
    """`network_features` of an encoder of the same shape that has learned nothing: PyTorch's own first weights, and
    statistics of batch norm from training examples, without which most of it would be scaled to nothing."""
    untrained = Game(None, model.z_dim, copy.deepcopy(model.encoder))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in untrained.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    update_bn(train.some(FOR_RANDOM).batches(AT_ONCE), untrained.encoder, model.device)
    return network_features(untrained)


def compared(model: Game, train: Dataset, held_out: Dataset, labels: int, draws: int | Iterable[int] = 100) -> dict:
    """`svm` of the model's features, and of what they have to beat, on the same draws: the pixels, as many principal
    components as z has numbers, and an encoder of the same shape that has learned nothing, where there is one.

    Flat, one name a number: error and std over draws, cost, unconverged and dims; led by pixels_, components_, random_.
    """
    kinds = {"": network_features(model), "pixels_": pixel_features}
    kinds["components_"] = component_features(train, model.z_dim)
    if model.encoder is not None:
        kinds["random_"] = random_features(model, train)
    found = {"labels": labels, "n": len(held_out)}
    for name, features in kinds.items():
        of = svm(features, train, held_out, labels, draws)
        numbers = {"error": of.error, "std": of.std, "cost": of.cost, "unconverged": of.unconverged, "dims": of.dims}
        found |= {"draws": len(of.errors)} | {name + key: number for key, number in numbers.items()}
    return found
