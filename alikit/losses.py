"""What the players minimise, as pure functions of the discriminator's logits (paper section 2).

`q_logits` and `p_logits` are D's outputs before the sigmoid, shape (N,), any real number: on pairs (x, z_hat) of the
encoder joint q, and on pairs (x_tilde, z) of the decoder joint p. D(.) = sigmoid(logit) is its belief in "this is q".
Losses are scalars in nats. softplus(-d) is -log D and softplus(d) is -log(1 - D), safe at any logit.

Where D also tells K classes apart it has K + 1 logits, (N, K + 1), the last for "this is p" (Salimans et al. 2016). The
last one may be left out, (N, K), and is then 0: a softmax only knows differences, so the game is the same.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy, pad, relu, softplus

# For each adversarial loss, what D minimises of its logits and what the other players minimise. D wants q's logits high
# and p's low, they want the opposite.
LOSSES = {
    "ns": (softplus, softplus),  # non-saturating, the paper's
    "hinge": (lambda logits: relu(1 + logits), lambda logits: logits),  # Lim and Ye 2017; BigBiGAN's
    "least-squares": (lambda logits: (1 + logits).square(), lambda logits: (1 + logits).square()),  # Mao et al. 2017
    "relativistic": (softplus, softplus),  # of q's logit minus p's, in pairs (Jolicoeur-Martineau 2018; R3GAN)
}


def discriminator_loss(q_logits: Tensor, p_logits: Tensor, loss: str = "ns") -> Tensor:
    """With the paper's loss -V(D, G) = -E_q[log D] - E_p[log(1 - D)]: log 4 when D cannot tell the joints apart, 0 when
    it is always right and sure."""
    of_discriminator, _ = LOSSES[loss]
    if loss == "relativistic":
        return of_discriminator(p_logits - q_logits).mean()
    return of_discriminator(-q_logits).mean() + of_discriminator(p_logits).mean()


def generator_loss(q_logits: Tensor, p_logits: Tensor, loss: str = "ns") -> Tensor:
    """With the paper's loss -E_q[log(1 - D)] - E_p[log D], non-saturating on both sides: low when D mistakes one joint
    for the other.

    In a plain GAN the generator has no part in the q term; `gan_generator_loss` leaves it out.
    """
    _, of_generator = LOSSES[loss]
    if loss == "relativistic":
        return of_generator(q_logits - p_logits).mean()
    return of_generator(q_logits).mean() + of_generator(-p_logits).mean()


def gan_generator_loss(p_logits: Tensor, q_logits: Tensor | None = None, loss: str = "ns") -> Tensor:
    """With the paper's loss -E_p[log D], of a decoder that plays alone (Goodfellow et al. 2014, section 3). Only the
    relativistic one looks at `q_logits`."""
    if loss == "relativistic":
        return generator_loss(q_logits, p_logits, loss)
    _, of_generator = LOSSES[loss]
    return of_generator(-p_logits).mean()


def code_loss(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """The mean of -log q(z) over N and Z, up to a constant, of the Gaussians with these moments; all are (N, Z)."""
    return (((z - mu) / log_sigma.exp()).square() / 2 + log_sigma).mean()


def real_logit(class_logits: Tensor, classes: int) -> Tensor:
    """D's logit for "q, of whatever class", (N,): log of p(1) + ... + p(K) over p(K + 1).

    class_logits  (N, K + 1), or (N, K) with the last one fixed at 0, or (N,) if K = 1; safe for large values
    """
    class_logits = class_logits.reshape(len(class_logits), -1)
    if class_logits.shape[1] == classes:
        class_logits = pad(class_logits, (0, 1))
    return class_logits[:, :classes].logsumexp(1) - class_logits[:, classes]


def class_loss(class_logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """-E[log p(label | the pair is q's)], the cross-entropy among the K classes; labels (N,) int64.

    With softplus(-real_logit) it adds up to -E[log p(label)] among all K + 1 classes, because
    p(real cat) = p(real) p(cat | real).
    """
    return cross_entropy(class_logits.reshape(len(class_logits), -1)[:, :classes], labels)


def consistency_loss(class_logits: Tensor, target_logits: Tensor, classes: int) -> Tensor:
    """E[sum_k (p(k) - target p(k))^2] among the K classes: how far two answers about the same examples differ, 0 to 2.

    The target is constant: its logits get no gradient (after Laine and Aila 2017).
    """
    rows = (logits.reshape(len(logits), -1) for logits in (class_logits, target_logits.detach()))
    p, target = (row[:, :classes].float().softmax(1) for row in rows)
    return (p - target).square().sum(1).mean()
