"""The losses against numbers worked out by hand and against PyTorch's own cross-entropy."""

from math import log

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import log_softmax, pad, softplus

from alikit import losses

K = 4


def logits(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


def test_by_hand_and_as_cross_entropy():
    """D says 3/4 and 1/2 on q's two pairs, 1/4 and 1/2 on p's."""
    q, p, is_q, is_p = logits(log(3), 0), logits(-log(3), 0), torch.ones(2).double(), torch.zeros(2).double()
    for found, expected, reference in (
        (losses.discriminator_loss(q, p), -log(3 / 4) - log(1 / 2), cross_entropy(q, is_q) + cross_entropy(p, is_p)),
        (losses.generator_loss(q, p), -log(1 / 4) - log(1 / 2), cross_entropy(q, is_p) + cross_entropy(p, is_q)),
        (losses.gan_generator_loss(p), (log(4) + log(2)) / 2, cross_entropy(p, is_q)),
        (losses.value(q, p), log(3 / 4) + log(1 / 2), -losses.discriminator_loss(q, p)),
        (losses.discriminator_loss(logits(0), logits(0)), log(4), torch.tensor(2.0).double().log() * 2),
    ):
        assert found.item() == pytest.approx(expected) == pytest.approx(reference.item())


def test_value_of_the_best_discriminator():
    """Two outcomes, q = (3/4, 1/4) and p = (1/4, 3/4), so q / (q + p) is 3/4 or 1/4: V = 2 JSD - log 4."""
    best = log(3)
    found = losses.value(logits(best, best, best, -best), logits(best, -best, -best, -best)).item()
    assert found == pytest.approx(2 * jensenshannon([0.75, 0.25], [0.25, 0.75]) ** 2 - log(4))


@pytest.mark.parametrize("size", [200.0, -200.0])
@pytest.mark.parametrize("loss", [losses.value, losses.discriminator_loss, losses.generator_loss])
def test_a_sure_discriminator_gives_finite_numbers(loss, size):
    q, p = torch.tensor([size], requires_grad=True), torch.tensor([-size], requires_grad=True)
    result = loss(q, p)
    result.backward()
    assert abs(result.item()) in (0, pytest.approx(400)) and q.grad.isfinite().all() and p.grad.isfinite().all()


def test_the_generator_has_a_gradient_on_both_sides_where_the_saturating_loss_has_none():
    q, p, saturating = logits(10), logits(-10), logits(-10)
    losses.value(logits(10), saturating).backward()
    losses.generator_loss(q, p).backward()
    assert saturating.grad.item() == pytest.approx(-torch.tensor(-10.0).sigmoid().item())  # -0.00005
    assert q.grad.item() == -p.grad.item() == pytest.approx(torch.tensor(10.0).sigmoid().item())  # 0.99995


@pytest.mark.parametrize("outputs", [K, K + 1])
def test_real_logit_and_class_loss_make_the_probabilities_of_all_classes(outputs):
    """Of large logits too: right and sure costs nothing, wrong and sure the distance, and gradients are finite."""
    class_logits, labels = torch.randn(7, outputs, dtype=torch.float64), torch.arange(7) % K
    log_p, real = log_softmax(pad(class_logits, (0, K + 1 - outputs)), 1), losses.real_logit(class_logits, K)
    torch.testing.assert_close((-softplus(real), -softplus(-real)), (log_p[:, K], log_p[:, :K].logsumexp(1)))
    whole = losses.class_loss(class_logits, labels, K) + softplus(-real).mean()
    torch.testing.assert_close(whole, -log_p[torch.arange(7), labels].mean())
    for size in (1e4, 1e30):
        large = torch.zeros(2, outputs)
        large[0, 1], large[1, :K] = size, -size
        real = losses.real_logit(large.requires_grad_(), K)
        assert real.tolist() == pytest.approx([size, -size], rel=1e-3)
        right, wrong = (losses.class_loss(large[:1], torch.tensor([label]), K) for label in (1, 0))
        assert (right.item(), wrong.item()) == (0, pytest.approx(size))
        (gradient,) = torch.autograd.grad(softplus(-real).sum() + wrong, large)
        assert gradient.isfinite().all()


def test_consistency_loss():
    """2 for an example about which the answers contradict each other; the second one gets no gradient."""
    one, other = torch.tensor([[0.0, 50.0], [0.0, 0.0]]), torch.tensor([[50.0, 0.0], [7.0, 7.0]])
    for first, second, expected in (
        (one, other, 1),
        (torch.cat([one, torch.randn(2, 1)], 1), other, 1),
        (one, one + 3, 0),
    ):
        assert losses.consistency_loss(first, second, 2).item() == pytest.approx(expected)
    losses.consistency_loss(one.requires_grad_() + 1, other.requires_grad_(), 2).backward()
    assert one.grad is not None and other.grad is None
