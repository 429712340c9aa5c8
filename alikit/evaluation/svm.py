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
from ..training import epoch_order
from .probes import Features, applied, component_features

COSTS = np.exp(np.linspace(-20, 20, 50))  # values of C that are tried, as published
ITERATIONS = 1_000  # of one fit at most
FOR_RANDOM, AT_ONCE = 2_000, 500  # unlabelled examples that set batch norm, in all and in a batch, at most
LAYERS = 3  # hidden layers whose outputs are features


@dataclass(frozen=True)
class Classification:
    """How often a model that knows classes is wrong on n examples, 0..1, and the 95 % interval over such examples."""

    error: float
    low: float
    high: float
    n: int


def classification(model: Game, held_out: Dataset) -> Classification:
    """Guesses the class of every held-out example, without dropout and with z_hat = mu (paper section 4.4)."""
    guess = torch.cat([model.classify(x.to(model.device)).argmax(1).cpu() for x in held_out.batches(500)])
    wrong = int((guess != held_out.labels).sum())
    return Classification(wrong / len(guess), *interval(wrong, len(guess)), len(guess))


def interval(wrong: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the share of wrong examples among n."""
    from scipy.stats import binomtest  # takes half a second to import; comes with scikit-learn

    return tuple(map(float, binomtest(wrong, n).proportion_ci(method="wilson")))


@dataclass(frozen=True)
class Draws:
    """Test errors of one kind of features over draws of the labelled examples."""

    errors: tuple[float, ...]  # share of held-out examples that each draw's SVM gets wrong, 0..1
    error: float  # their mean
    std: float  # their standard deviation over draws, NaN for a single one
    cost: float  # C, chosen on the first draw
    validation: float  # the error on the validation examples with which it was chosen
    unconverged: int  # draws whose fit was stopped after 1,000 iterations
    dims: int  # F
    n: int  # held-out examples


def svm(features: Features, train: Dataset, held_out: Dataset, labels: int, draws: int = 100) -> Draws:
    """Draws `labels` training examples, as many of each class, fits an L2-SVM to their features, and counts its errors
    on the held-out examples; for the seeds 0 to draws - 1, whose examples are the same for all features.

    C is chosen on the first draw by the error on the examples of `for_settings`, of equally good ones the middle.
    AlikitError where `labels` cannot be drawn, see `Dataset.labelled`.
    """
    chosen, validation = [few_labels(train, labels, seed) for seed in range(draws)], for_settings(train)
    fits = _fits(features, chosen[0], COSTS, applied(features, validation), validation.labels)
    lowest = min(error for error, _ in fits)
    best = [cost for cost, (error, _) in zip(COSTS.tolist(), fits, strict=True) if error == lowest]
    cost, test = best[len(best) // 2], applied(features, held_out)
    fits = [fit for few in chosen for fit in _fits(features, few, [cost], test, held_out.labels)]
    errors, stopped = zip(*fits, strict=True)
    std = float(np.std(errors, ddof=1)) if draws > 1 else math.nan
    return Draws(errors, float(np.mean(errors)), std, cost, lowest, sum(stopped), test.shape[1], len(test))


def _fits(features: Features, few: Dataset, costs: Iterable[float], v: np.ndarray, labels: Tensor) -> list[tuple]:
    """Fits an L2-SVM to the features of a few examples at each cost: its error on v (N, F) with these labels (N,), and
    whether the fit was stopped before its end."""
    from sklearn.svm import LinearSVC  # takes a second to import

    own, found = applied(features, few).astype(np.float64), []
    if not np.isfinite(own).all():
        raise AlikitError("an SVM needs finite features, and this network gives others: train it again")
    # An SVM knows only inner products, so M examples can be described in an orthonormal basis of the space that they
    # span: M = 1,000 examples then cost the same with 17,000 features as with 1,000.
    basis, _ = np.linalg.qr(own.T)  # (F, M), or (F, F) where there are fewer features
    for cost in costs:
        machine = LinearSVC(C=cost, dual=True, max_iter=ITERATIONS, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fits that do not converge are counted
            machine.fit(own @ basis, few.labels.numpy())
        scores = v @ (machine.coef_ @ basis.T).T.astype(np.float32) + machine.intercept_.astype(np.float32)
        guess = scores.argmax(1) if scores.shape[1] > 1 else scores[:, 0] > 0
        found.append((float((guess != labels.numpy()).mean()), bool(np.max(machine.n_iter_) >= ITERATIONS)))
    return found


def network_features(model: Game) -> Features:
    """The last three hidden layers of the encoder and its means; of a GAN, which has none, those of D(x).

    As published, a hidden layer is taken as batch norm passes it to the activation; where there is no batch norm,
    before LeakyReLU, or after maxout. For the SVHN network and its 256 means that makes
    256*4*4 + 512 + 512 + 256 = 5,376 numbers; the paper says 8,960. AlikitError for models without such layers.
    """
    if model.attributes:
        raise AlikitError("a conditional model is given what an SVM is to find out: leave svm out")
    network = model.encoder or getattr(model, "discriminator", None)
    if network is None:
        raise AlikitError("no encoder and no discriminator, which records leave out: name a run that has one of them")
    hooked = hidden_layers(network)[:-1]  # the last layer gives the means, or the logits
    if model.encoder is None and (in_tower := hidden_layers(network.towers[0])):
        network, hooked = network.towers[0], in_tower

    def features(x: Tensor) -> Tensor:
        outputs: list[Tensor] = []  # no activation of alikit's is in place, which would change them
        hooks = [layer.register_forward_hook(lambda _, __, out: outputs.append(out)) for layer in hooked[-LAYERS:]]
        try:
            if model.encoder is not None:
                outputs.append(model.encode(x, sample=False))
            else:
                with model.inference():
                    network(x.to(model.device))
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat([v.flatten(1).cpu() for v in outputs], dim=1)

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


def random_features(model: Game, train: Dataset) -> Features:
    """`network_features` of an untrained encoder of the same shape: PyTorch's own first weights by seed 0, and
    statistics of batch norm from training examples, without which features would be scaled to nothing."""
    untrained = Game(None, model.z_dim, copy.deepcopy(model.encoder))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in untrained.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    # In random order, for classes may be sorted, and in batches of one size, for each counts the same.
    order = epoch_order(len(train), epoch=0, seed=0)[:FOR_RANDOM]
    batches = order.tensor_split(math.ceil(len(order) / AT_ONCE))
    update_bn(map(train.floats, batches), untrained.encoder, model.device)
    return network_features(untrained)


def compared(model: Game, train: Dataset, held_out: Dataset, labels: int, draws: int = 100) -> dict[str, float]:
    """`svm` of the model's features and, on the same draws, of what they have to beat: the pixels, as many principal
    components as z has numbers, and an untrained encoder if the model has an encoder. Error and std over draws, cost,
    unconverged and dims, prefixed by "", pixels_, components_ and random_."""
    kinds = {"": network_features(model), "pixels_": pixel_features}
    few_labels(train, labels, 0)  # says what is wrong where features of so few would fail
    kinds["components_"] = component_features(train, model.z_dim)
    if model.encoder is not None:
        kinds["random_"] = random_features(model, train)
    found = {"labels": labels, "n": len(held_out), "draws": draws}
    for name, features in kinds.items():
        of = svm(features, train, held_out, labels, draws)
        found |= {name + key: getattr(of, key) for key in ("error", "std", "cost", "unconverged", "dims")}
    return found
