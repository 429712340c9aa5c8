"""The losses against numbers worked out by hand and against PyTorch's own cross-entropy."""

from math import log

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import log_softmax, pad, softplus

from alikit.losses import (
    class_loss,
    consistency_loss,
    discriminator_loss,
    gan_generator_loss,
    generator_loss,
    real_logit,
    value,
)

K = 4


def logits(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


def test_by_hand():
    """D says 3/4 and 1/2 on q's two pairs, 1/4 and 1/2 on p's."""
    q, p = logits(log(3), 0), logits(-log(3), 0)
    assert value(q, p).item() == pytest.approx(log(3 / 4) + log(1 / 2))
    assert discriminator_loss(q, p).item() == pytest.approx(-log(3 / 4) - log(1 / 2))
    assert generator_loss(q, p).item() == pytest.approx(-log(1 / 4) - log(1 / 2))
    assert gan_generator_loss(p).item() == pytest.approx((log(4) + log(2)) / 2)
    assert discriminator_loss(logits(0), logits(0)).item() == pytest.approx(log(4)), "D cannot tell"


def test_cross_entropy():
    torch.manual_seed(0)
    q, p = 3 * torch.randn(2, 50, dtype=torch.float64)
    is_q, is_p = torch.ones_like(q), torch.zeros_like(p)
    torch.testing.assert_close(discriminator_loss(q, p), cross_entropy(q, is_q) + cross_entropy(p, is_p))
    torch.testing.assert_close(generator_loss(q, p), cross_entropy(q, is_p) + cross_entropy(p, is_q))
    torch.testing.assert_close(gan_generator_loss(p), cross_entropy(p, is_q))
    torch.testing.assert_close(value(q, p), -discriminator_loss(q, p))


@pytest.mark.parametrize("q", [200.0, -200.0])
@pytest.mark.parametrize("loss", [value, discriminator_loss, generator_loss])
def test_a_sure_discriminator_gives_finite_numbers(loss, q):
    q_logits, p_logits = torch.tensor([q], requires_grad=True), torch.tensor([-q], requires_grad=True)
    result = loss(q_logits, p_logits)
    result.backward()
    assert abs(result.item()) in (0, pytest.approx(400))
    assert q_logits.grad.isfinite().all() and p_logits.grad.isfinite().all()


def test_value_of_the_best_discriminator():
    """Two outcomes, q = (3/4, 1/4) and p = (1/4, 3/4), so q / (q + p) is 3/4 or 1/4: V = 2 JSD - log 4."""
    best = log(3)
    found = value(logits(best, best, best, -best), logits(best, -best, -best, -best)).item()
    assert found == pytest.approx(2 * jensenshannon([0.75, 0.25], [0.25, 0.75]) ** 2 - log(4))


def test_the_generator_has_a_gradient_on_both_sides_where_the_saturating_loss_has_none():
    q, p, saturating = logits(10), logits(-10), logits(-10)
    value(logits(10), saturating).backward()
    generator_loss(q, p).backward()
    assert saturating.grad.item() == pytest.approx(-1 / (1 + torch.tensor(10.0).exp().item()))  # -0.00005
    assert q.grad.item() == -p.grad.item() == pytest.approx(torch.tensor(10.0).sigmoid().item())  # 0.99995


@pytest.mark.parametrize("outputs", [K, K + 1])
def test_real_logit_and_class_loss_make_the_probabilities_of_all_classes(outputs):
    class_logits, labels = torch.randn(7, outputs, dtype=torch.float64), torch.arange(7) % K
    log_p = log_softmax(pad(class_logits, (0, K + 1 - outputs)), 1)
    real = real_logit(class_logits, K)
    torch.testing.assert_close(-softplus(real), log_p[:, K])
    torch.testing.assert_close(-softplus(-real), log_p[:, :K].logsumexp(1))
    whole = -log_p[torch.arange(7), labels].mean()
    torch.testing.assert_close(class_loss(class_logits, labels, K) + softplus(-real).mean(), whole)


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("outputs", [K, K + 1])
def test_large_class_logits(outputs, size):
    """Right and sure costs nothing, wrong and sure costs the distance; no NaN, and no infinite gradient."""
    class_logits = torch.zeros(2, outputs)
    class_logits[0, 1], class_logits[1, :K] = size, -size
    real = real_logit(class_logits.requires_grad_(), K)
    assert real.tolist() == pytest.approx([size, -size], rel=1e-3)
    assert class_loss(class_logits[:1], torch.tensor([1]), K).item() == 0
    assert class_loss(class_logits[:1], torch.tensor([0]), K).item() == pytest.approx(size)
    (softplus(-real).sum() + class_loss(class_logits, torch.tensor([0, 0]), K)).backward()
    assert class_logits.grad.isfinite().all()


def test_consistency_loss():
    one, other = torch.tensor([[0.0, 50.0], [0.0, 0.0]]), torch.tensor([[50.0, 0.0], [7.0, 7.0]])
    assert consistency_loss(one, other, 2).item() == pytest.approx(1)  # 2 where they contradict each other, else 0
    assert consistency_loss(torch.cat([one, torch.randn(2, 1)], 1), other, 2).item() == pytest.approx(1)
    assert consistency_loss(one, one + 3, 2).item() == pytest.approx(0)
    one.requires_grad_(), other.requires_grad_()
    consistency_loss(one + 1, other, 2).backward()
    assert one.grad is not None and other.grad is None
