"""The players' losses against numbers worked out by hand and against PyTorch's own cross-entropy."""

from math import log

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch.nn.functional import binary_cross_entropy_with_logits

from alikit.losses import (
    P,
    Q,
    discriminator_loss,
    gan_generator_loss,
    generator_loss,
    slope_of_surprise,
    surprise,
    value,
)

PAIRED = (value, discriminator_loss, generator_loss)


def logits(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # D says 3/4 and 1/2 on q's two pairs, 1/4 and 1/2 on p's.
        (value, log(3 / 4) + log(1 / 2)),
        (discriminator_loss, -log(3 / 4) - log(1 / 2)),
        (generator_loss, -log(1 / 4) - log(1 / 2)),
    ],
)
def test_by_hand(loss, expected):
    assert loss(logits(log(3), 0), logits(-log(3), 0)).item() == pytest.approx(expected)


@pytest.mark.parametrize("side", [Q, P])
def test_slope_of_surprise(side):
    told = torch.tensor([-200, -60, -3, -1e-3, 0, 0.5, 3, 60, 200], requires_grad=True)
    (expected,) = torch.autograd.grad(surprise(told, side), told)
    torch.testing.assert_close(slope_of_surprise(told.detach(), side), expected, rtol=1e-6, atol=0)


def test_neither_side_has_no_slope():
    assert not slope_of_surprise(torch.tensor([-200.0, 0, 3]), 0).any()


def test_gan_generator_by_hand():
    assert gan_generator_loss(logits(-log(3), 0)).item() == pytest.approx((log(4) + log(2)) / 2)


def test_log_4_when_d_cannot_tell():
    assert discriminator_loss(logits(0, 0), logits(0, 0)).item() == pytest.approx(log(4))


def test_cross_entropy():
    torch.manual_seed(0)
    q, p = 3 * torch.randn(2, 50, dtype=torch.float64)
    is_q, is_p = torch.ones_like(q), torch.zeros_like(p)
    cross_entropy = binary_cross_entropy_with_logits
    torch.testing.assert_close(discriminator_loss(q, p), cross_entropy(q, is_q) + cross_entropy(p, is_p))
    torch.testing.assert_close(generator_loss(q, p), cross_entropy(q, is_p) + cross_entropy(p, is_q))
    torch.testing.assert_close(gan_generator_loss(p), cross_entropy(p, is_q))
    torch.testing.assert_close(value(q, p), -discriminator_loss(q, p))


@pytest.mark.parametrize(("q", "p"), [(200.0, -200.0), (-200.0, 200.0)])
@pytest.mark.parametrize("loss", PAIRED)
def test_sure_discriminator_gives_finite_numbers(loss, q, p):
    q_logits, p_logits = torch.tensor([q], requires_grad=True), torch.tensor([p], requires_grad=True)
    result = loss(q_logits, p_logits)
    result.backward()
    assert abs(result.item()) in (0, pytest.approx(400))
    assert q_logits.grad.isfinite().all() and p_logits.grad.isfinite().all()


def test_value_of_the_best_discriminator():
    """Two outcomes, q = (3/4, 1/4) and p = (1/4, 3/4), so q / (q + p) is 3/4 or 1/4: V = 2 JSD - log 4."""
    best = log(3)
    found = value(logits(best, best, best, -best), logits(best, -best, -best, -best)).item()
    assert found == pytest.approx(2 * jensenshannon([0.75, 0.25], [0.25, 0.75]) ** 2 - log(4))


def test_saturating_gradient_dies_where_the_other_is_full():
    saturating, paid = logits(-10), logits(-10)
    value(logits(10), saturating).backward()  # as a loss of the generator's
    generator_loss(logits(10), paid).backward()
    assert saturating.grad.item() == pytest.approx(-torch.tensor(-10.0).sigmoid().item())  # -0.00005
    assert paid.grad.item() == pytest.approx(-torch.tensor(10.0).sigmoid().item())  # -0.99995


def test_generator_is_paid_on_both_sides():
    q, p = logits(2), logits(-2)
    generator_loss(q, p).backward()
    assert q.grad.item() == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert p.grad.item() == pytest.approx(-torch.tensor(2.0).sigmoid().item())
