"""The losses against PyTorch's own cross-entropy."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, pad, softplus

from alikit import losses

K = 4


def logits(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


def test_losses_are_cross_entropies_whatever_the_logits():
    """So the generator has a gradient on both sides also where D is sure, and the saturating loss has none there."""

    def says(d, answer):
        return binary_cross_entropy_with_logits(d, torch.full_like(d, answer))

    q, p = logits(*range(-500, 500)), logits(*torch.linspace(20, -20, 99))
    for found, expected in (
        (losses.discriminator_loss(q, p), says(q, 1) + says(p, 0)),
        (losses.generator_loss(q, p), says(q, 0) + says(p, 1)),
        (losses.gan_generator_loss(p), says(p, 1)),
    ):
        torch.testing.assert_close(found, expected)
        slopes = (torch.autograd.grad(loss, (q, p), materialize_grads=True) for loss in (found, expected))
        torch.testing.assert_close(*slopes, atol=1e-12, rtol=1e-6)


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
        assert torch.autograd.grad(softplus(-real).sum() + wrong, large)[0].isfinite().all()
