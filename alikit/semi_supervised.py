"""Games with a few labels: the discriminator also learns to classify.

KPlusOne is ALI with a discriminator that also classifies K classes (paper section 4.4), FeatureMatchingGAN is the
paper's baseline (Salimans et al. 2016), and Supervised shows what the same few labels are worth alone. In a batch the
labelled examples come last, see `Game.losses`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .distributed import mean_of_all
from .losses import class_loss, consistency_loss, real_logit
from .models import ALI, GAN, Game
from .views import shifted


class _Classes:
    """A discriminator with a logit for each of K classes, and optionally one for "this is p", see losses.py.

    It learns that all of q's pairs are real, of whatever class, and that labelled ones are of their class.
    """

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], ...]:
        """As without labels, but the last len(y) pairs, the labelled ones, give the encoder no gradient."""
        q_pair, *others = super().pairs(x)
        if y is not None:
            free = len(x) - len(y)
            q_pair = tuple(m if m.grad_fn is None else torch.cat([m[:free], m[free:].detach()]) for m in q_pair)
        return q_pair, *others

    def real_logit(self, logits: Tensor) -> Tensor:
        return real_logit(logits, self.classes)

    def auxiliary_loss(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        return None if y is None else class_loss(q_logits[-len(y) :], y, self.classes)

    def classify(self, x: Tensor) -> Tensor:
        """D's logits of the K classes, (N, K), for (x, mu(x)), or for x alone where there is no encoder."""
        x = self.fitting(x, self.x_shape)
        pair = (x,) if self.encoder is None else (x, self.encode(x, sample=False))
        with self.inference():
            return self.discriminator(*pair).reshape(len(x), -1)[:, : self.classes]


class KPlusOne(_Classes, ALI):
    """ALI whose discriminator classifies (x, z_hat) into K classes and (x_tilde, z) into class K + 1.

    Encoder and decoder have ALI's objective, with D's logit for "q, of whatever class". The paper does not give their
    loss: this one is section 2's, without feature matching.

    consistency  weight of a term that is not in the paper: D sees all of q's pairs again, with x shifted a little
                 (`views.shifted`) and other units dropped, and minimises the `consistency_loss` between its two outputs
                 (Laine and Aila 2017, the first output held constant); 0 for none
    """

    consistency = 0.0

    def __init__(self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, z_dim: int, classes: int):
        super().__init__(encoder, decoder, discriminator, z_dim)
        self.classes = classes

    def auxiliary_loss(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        of_labels = super().auxiliary_loss(q_pair, q_logits, y)
        if not self.consistency:
            return of_labels
        x, z_hat = (member.detach() for member in q_pair)
        again = consistency_loss(self.discriminator(shifted(x), z_hat), q_logits, self.classes)
        return self.consistency * again + (0 if of_labels is None else of_labels)


class FeatureMatchingGAN(_Classes, GAN):
    """A GAN with K + 1 classes whose generator matches the mean of D's features on x_tilde to that on x.

    The features are the input of D's last layer (Salimans et al. 2016, sections 3.1 and 5). It has no penalties.
    """

    r1 = r2 = penalty_on = penalty_every = None

    def __init__(self, decoder: nn.Module, discriminator: nn.Module, z_dim: int, classes: int):
        super().__init__(decoder, discriminator, z_dim)
        self.classes = classes

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The generator's is the squared distance between the two means, averaged over features."""
        (_,), (x_tilde,) = self.pairs(x)
        features = self.discriminator.features(torch.cat([x, x_tilde]))
        q_logits, p_logits = self.discriminator.head(features).chunk(2)
        of_x, of_x_tilde = (mean_of_all(half.float().mean(0)) for half in features.chunk(2))
        losses = self.objective(self.real_logit(q_logits), self.real_logit(p_logits))
        if y is not None:
            losses["discriminator"] = losses["discriminator"] + self.auxiliary_loss((x,), q_logits, y)
        return losses | {"generator": (of_x - of_x_tilde).square().mean()}


class Supervised(Game):
    """The same few labels alone: a network (N, ...) -> (N, K) that sees only labelled examples."""

    def __init__(self, classifier: nn.Module, classes: int):
        super().__init__(decoder=None, z_dim=0)
        self.classifier, self.classes = classifier, classes

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"classifier": [p for p in self.parameters() if p.requires_grad]}

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The cross-entropy of the labelled examples, the last len(y) of x."""
        return {"classifier": cross_entropy(self.classifier(x[-len(y) :]), y)}

    def classify(self, x: Tensor) -> Tensor:
        with self.inference():
            return self.classifier(self.fitting(x, self.x_shape))
