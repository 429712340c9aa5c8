"""Games in which a few examples have a class: what a discriminator knows of the world, asked for its names.

KPlusOne is ALI with a discriminator that also tells K classes apart (paper section 4.4), FeatureMatchingGAN what the
paper compares with (Salimans et al. 2016), Supervised what the same few labels are worth alone. All of them classify.
In a batch the labelled examples come last, see `Game.losses`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .distributed import mean_of_all
from .losses import P, Q, class_surprise, disagreement, realness
from .models import ALI, GAN, Game
from .views import shifted


class _Classes:
    """A discriminator with a logit for each of K classes, and perhaps one for "this is p", see `losses`.

    All pairs of q's are to be taken for real, of whatever class; those of known class, moreover, for that class.
    """

    def pairs(self, x: Tensor, y: Tensor | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """As without classes. But what D is told of the class of a pair is D's affair: of the last len(y) pairs, which
        have one, the encoder learns nothing."""
        q_pair, p_pair = super().pairs(x)
        if y is not None:
            free = len(x) - len(y)
            q_pair = tuple(m if m.grad_fn is None else torch.cat([m[:free], m[free:].detach()]) for m in q_pair)
        return q_pair, p_pair

    def realness(self, logits: Tensor) -> Tensor:
        return realness(logits, self.classes)

    def owed(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        if y is None:
            return None
        return class_surprise(q_logits[-len(y) :], y, self.classes)

    def classify(self, x: Tensor) -> Tensor:
        """D's logits of the K classes, (N, K), for (x, mu(x)), or for x alone where there is no encoder."""
        pair = (x,) if self.encoder is None else (x, self.encode(x, sample=False))
        with self.asked():
            return self.discriminator(*pair).reshape(len(x), -1)[:, : self.classes]


class KPlusOne(_Classes, ALI):
    """ALI, whose discriminator takes (x, z_hat) for one of K classes and (x_tilde, z) for class K + 1.

    Encoder and decoder play for what they play for in ALI, D's belief in "q, of whatever class". Of their loss nothing
    was published: this one is section 2's, and features are not matched.

    consistency  weight of a term that is not the paper's: D is asked again about all pairs of q's, with x moved a
                 little (`views.shifted`) and other units dropped, and pays for the `disagreement` of its two answers
                 (after Laine and Aila 2017, with the first answer taken as given); 0, as in the paper, for none
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        discriminator: nn.Module,
        z_dim: int,
        classes: int,
        r1: float = 0.0,
        consistency: float = 0.0,
    ):
        super().__init__(encoder, decoder, discriminator, z_dim, r1)
        self.classes, self.consistency = classes, consistency

    def owed(self, q_pair: tuple[Tensor, ...], q_logits: Tensor, y: Tensor | None) -> Tensor | None:
        named = super().owed(q_pair, q_logits, y)
        if not self.consistency:
            return named
        x, z_hat = (member.detach() for member in q_pair)
        apart = disagreement(self.discriminator(shifted(x), z_hat), q_logits, self.classes)
        return self.consistency * apart if named is None else named + self.consistency * apart


class FeatureMatchingGAN(_Classes, GAN):
    """A GAN of K + 1 classes whose generator makes the mean of D's features the same for x_tilde as for x.

    The features are what D's last layer judges by. (Salimans et al. 2016, sections 3.1 and 5.)
    """

    wants: ClassVar = {"discriminator": (Q, P)}

    def __init__(self, decoder: nn.Module, discriminator: nn.Module, z_dim: int, classes: int):
        super().__init__(decoder, discriminator, z_dim)
        self.classes = classes

    def losses(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """The generator's is the squared distance between the two means, of one feature on average."""
        (_,), (x_tilde,) = self.pairs(x)
        features = self.discriminator.features(torch.cat([x, x_tilde]))
        q_logits, p_logits = self.discriminator.verdict(features).chunk(2)
        of_x, of_x_tilde = (mean_of_all(half.float().mean(0)) for half in features.chunk(2))
        found = self._surprises(self.realness(q_logits), self.realness(p_logits))
        if y is not None:
            found["discriminator"] = found["discriminator"] + self.owed((x,), q_logits, y)
        return found | {"generator": (of_x - of_x_tilde).square().mean()}

    def gradients(self, x: Tensor, y: Tensor | None = None, players: dict[str, list[nn.Parameter]] | None = None):
        return Game.gradients(self, x, y, players)  # the generator wants something else of D: two backward passes


class Supervised(Game):
    """The same few labels without the rest: a network (N, ...) -> (N, K) that sees labelled examples alone."""

    def __init__(self, classifier: nn.Module, classes: int):
        super().__init__(decoder=None, z_dim=0)
        self.classifier, self.classes = classifier, classes

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"classifier": list(self.parameters())}

    def losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The cross-entropy of the labelled examples, the last len(y) of x."""
        return {"classifier": cross_entropy(self.classifier(x[-len(y) :]), y)}

    def classify(self, x: Tensor) -> Tensor:
        with self.asked():
            return self.classifier(x)
