"""What the players want, as pure functions of the discriminator's logits (paper section 2).

`q_logits` and `p_logits` are D's outputs before the sigmoid, shape (N,), any real number: on pairs (x, z_hat) of the
encoder joint q, and on pairs (x_tilde, z) of the decoder joint p. D(.) = sigmoid(logit) is its belief in "this is q".
Losses are scalars in nats. softplus(-d) is -log D and softplus(d) is -log(1 - D), safe at any logit.

Where D also tells K classes apart it has K + 1 logits, (N, K + 1), the last for "this is p" (Salimans et al. 2016). It
may leave the last one out, (N, K), which then is 0: a softmax only knows differences, so the game is the same.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, pad, softplus

Q, P = 1, -1  # what D may take a pair for


def surprise(logits: Tensor, side: int) -> Tensor:
    """-E[log D's belief in `side`], Q or P: from 0, where D is sure that these pairs, (N,), are that side's."""
    return softplus(-side * logits).mean()


def slope_of_surprise(logits: Tensor, side: int) -> Tensor:
    """The gradient of `surprise` by each logit, (N,): -1 / N to 0 for Q, 0 to 1 / N for P, 0 for side 0."""
    return torch.sigmoid(-side * logits) * (-side / len(logits))


def value(q_logits: Tensor, p_logits: Tensor) -> Tensor:
    """V(D, G) = E_q[log D] + E_p[log(1 - D)]: at most 0, and 2 JSD - log 4 for the best D.

    D climbs it. G may descend it as it stands, the saturating loss: its gradient dies where D is sure.
    """
    return logsigmoid(q_logits).mean() + logsigmoid(-p_logits).mean()


def discriminator_loss(q_logits: Tensor, p_logits: Tensor) -> Tensor:
    """-V(D, G): log 4 when D cannot tell the joints apart, 0 when it is always right and sure."""
    return surprise(q_logits, Q) + surprise(p_logits, P)


def generator_loss(q_logits: Tensor, p_logits: Tensor) -> Tensor:
    """Non-saturating on both sides: encoder and decoder are paid when D takes each joint for the other.

    For a plain GAN the q term holds nothing of the generator's; `gan_generator_loss` leaves it out.
    """
    return surprise(q_logits, P) + surprise(p_logits, Q)


def gan_generator_loss(p_logits: Tensor) -> Tensor:
    """-E_p[log D]: the non-saturating loss of a decoder that plays alone (Goodfellow et al. 2014, section 3)."""
    return surprise(p_logits, Q)


def realness(class_logits: Tensor, classes: int) -> Tensor:
    """D's logit for "q, of whatever class", (N,): log of p(1) + ... + p(K) over p(K + 1).

    class_logits  (N, K + 1), or (N, K) with the last one fixed at 0, of one class also (N,); any real numbers, large
                  ones too
    """
    every = class_logits.reshape(len(class_logits), -1)
    every = pad(every, (0, 1)) if every.shape[1] == classes else every
    return every[:, :classes].logsumexp(1) - every[:, classes]


def class_surprise(class_logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """-E[log p(label | it is q's)], the cross-entropy among the K classes; labels (N,) int64.

    With `surprise(realness(...), Q)` it makes -E[log p(label)] among all K + 1 classes: to be a real cat, a pair has to
    be real, and a cat among the real.
    """
    return cross_entropy(class_logits.reshape(len(class_logits), -1)[:, :classes], labels)


def disagreement(class_logits: Tensor, told: Tensor, classes: int) -> Tensor:
    """E[sum_k (p(k) - told p(k))^2] among the K classes: how far two answers about the same examples are apart, 0 to 2.

    `told` is taken as given: its logits get no gradient.
    """
    p, told = (
        logits.reshape(len(logits), -1)[:, :classes].float().softmax(1) for logits in (class_logits, told.detach())
    )
    return (p - told).square().sum(1).mean()
