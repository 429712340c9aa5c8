"""How unusual an example looks to a trained ALI or BiGAN, and how well that finds anomalies.

All three players have seen normal examples only. A score is larger the less an example is like these; how well it
separates anomalies from normal examples is measured on held-out ones of both kinds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .inference import examples

ALPHA = 0.9  # as in EGBAD's published settings


def anomaly_scores(model: Game, held_out: Dataset, alpha: float = ALPHA) -> dict[str, Tensor]:
    """Scores of all N examples, each (N,) float32 and larger for what is more anomalous, without any draw: z_hat is the
    mean code, x_hat = Gx(z_hat), d is D's logit and f the input of D's last layer; | |_1 sums absolute values.

    reconstruction  |x - x_hat|_1, EGBAD's L_G
    features        |f(x, z_hat) - f(x_hat, z_hat)|_1, EGBAD's L_D by feature matching (ALAD has another D)
    cycle           |z_hat - Gz(x_hat)|_1, GANomaly's score
    discriminator   -log D(x, z_hat) = softplus(-d), in nats, EGBAD's other L_D; its code has D(x_hat, z_hat)
    prior           |z_hat|_2^2 / 2, which is -log p(z_hat) but for a constant
    egbad           alpha * reconstruction + (1 - alpha) * discriminator
    egbad_features  alpha * reconstruction + (1 - alpha) * features

    With unary terms d is that of the pair. A relativistic D has d only up to a constant, which moves `egbad`, but not
    the order by `discriminator`; of the hinge and of least squares, D(.) = sigmoid(d) is not a probability.
    EGBAD: Zenati et al. 2018, arXiv 1802.06222; ALAD: Zenati et al. 2018, arXiv 1812.02288; GANomaly: Akcay et al.
    2018, arXiv 1805.06725. AlikitError for a model that is not a game of pairs (x, z) without a condition or has no
    discriminator, for an alpha outside of [0, 1], no examples, and scores that are not finite.
    """
    _check(model, held_out)
    if not 0 <= alpha <= 1:
        raise AlikitError(f"alpha is {alpha:g}, and it is the weight of the reconstruction: choose 0 to 1")
    found = []
    for x, _ in examples(model, held_out):
        x = model.fitting(x, model.x_shape)
        z_hat = model.encode(x, sample=False)
        x_hat = model.decode(z_hat)
        # No encoder takes what a model that has diverged may draw.
        z_again = model.encode(x_hat, sample=False) if x_hat.isfinite().all() else torch.full_like(z_hat, torch.nan)
        with model.inference():
            d = model.real_logit(model.discriminator(x, z_hat)).reshape(len(x), -1)[:, 0]  # s_xz, of unary terms
            f, f_hat = (model.discriminator.features(member, z_hat) for member in (x, x_hat))
        distances = [(a - b).flatten(1).abs().sum(1) for a, b in ((x, x_hat), (f, f_hat), (z_hat, z_again))]
        found.append(torch.stack([*distances, softplus(-d), z_hat.square().sum(1) / 2]).float().cpu())
    names = ("reconstruction", "features", "cycle", "discriminator", "prior")
    scores = dict(zip(names, torch.cat(found, dim=1), strict=True))
    for name, loss in {"egbad": "discriminator", "egbad_features": "features"}.items():
        scores[name] = alpha * scores["reconstruction"] + (1 - alpha) * scores[loss]
    if broken := ", ".join(name for name, score in scores.items() if not score.isfinite().all()):
        raise AlikitError(f"not finite: {broken}: this model has diverged, so train it again")
    return scores


def _check(model: Game, held_out: Dataset) -> None:
    """AlikitError for a model that cannot give all of `anomaly_scores`, and for data without examples."""
    if not len(held_out):
        raise AlikitError("there is no example to score: select at least 1")
    if model.encoder is None:
        raise AlikitError("anomaly scores need an encoder, and this model has none: train ALI or BiGAN")
    if getattr(model, "discriminator", None) is None:
        why = "which a VAE has not and records leave out"
        raise AlikitError(f"anomaly scores need a discriminator, {why}: train ALI, or name the folder of such a run")
    if model.attributes:
        raise AlikitError("anomaly scores are of pairs (x, z), and this game has y too: train one without conditions")
    if not hasattr(model.discriminator, "features"):
        way = "give it features(x, z), the input of its last layer, see networks.Discriminator"
        raise AlikitError(f"a {type(model.discriminator).__name__} has no features to compare: {way}")
    with torch.random.fork_rng(), model.inference():
        pair, *_ = model.pairs(x := model.fitting(held_out.floats(slice(1)), model.x_shape))
    if [member.shape for member in pair] != [x.shape, (1, model.z_dim)]:
        raise AlikitError(f"anomaly scores are of pairs (x, z), and {type(model).__name__} has others: train ALI")


@dataclass(frozen=True)
class Detection:
    """How well scores separate anomalies from normal examples, with 95 % intervals over examples."""

    auroc: float  # chance that an anomaly scores higher than a normal example; 0.5 knowing nothing
    auroc_low: float
    auroc_high: float
    ap: float  # average precision, the area below the curve of precision against recall; `share` knowing nothing
    ap_low: float
    ap_high: float
    share: float  # of anomalies among the n examples, 0..1
    n: int


def detection(
    scores: Tensor | Sequence[float], is_anomaly: Tensor | Sequence[bool], draws: int = 1000, seed: int = 0
) -> Detection:
    """`Detection` by scores (N,), larger for anomalies, and (N,) True or 1 for these and False or 0 for others.

    Intervals are from the 2.5th to the 97.5th percentile of a bootstrap by `seed`, which draws as many normal and as
    many anomalous examples as there are: a single point where all are separated, for then no draw differs. AlikitError
    for labels of one class only or that do not fit, and for scores that are not finite.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(is_anomaly)
    if scores.ndim != 1 or labels.shape != scores.shape:
        raise AlikitError(f"scores are {scores.shape} and labels {labels.shape}: give one label for each score")
    if not np.isin(labels, (0, 1)).all():
        raise AlikitError("a label is True or 1 for an anomaly, and False or 0 otherwise: compare classes first")
    if not np.isfinite(scores).all():
        raise AlikitError("some scores are not finite, so they have no order: train the model again")
    kinds = [np.flatnonzero(labels == kind) for kind in (0, 1)]
    if not all(map(len, kinds)):
        only = "an anomaly" if len(kinds[1]) else "normal"
        raise AlikitError(f"every example is {only}: there is nothing to tell apart, so give both kinds")
    chance, weights = np.random.default_rng(seed), np.ones((1 + draws, len(labels)), np.int32)
    for kind in kinds:
        weights[1:, kind] = chance.multinomial(len(kind), np.full(len(kind), 1 / len(kind)), draws)
    found = np.array([areas(row, scores, labels.astype(bool)) for row in weights])
    values = np.stack([found[0], *np.percentile(found[1:], (2.5, 97.5), axis=0)], axis=1)
    return Detection(*values.flatten().tolist(), len(kinds[1]) / len(labels), len(labels))


def areas(weights: np.ndarray, scores: np.ndarray, is_anomaly: np.ndarray) -> tuple[float, float]:
    """AUROC and average precision, as scikit-learn defines them but ten times as quick, which 1,000 draws need: of
    scores (N,), where weights (N,) say how often each example counts."""
    order = np.argsort(-scores)
    is_last = np.append(np.diff(scores[order]) != 0, True)  # equal scores share one threshold
    found, wrong = (np.append(0, np.cumsum((weights * kind)[order])[is_last]) for kind in (is_anomaly, ~is_anomaly))
    precision = found[1:] / np.maximum(found + wrong, 1)[1:]
    return np.trapezoid(found, wrong) / (found[-1] * wrong[-1]), np.diff(found) @ precision / found[-1]
