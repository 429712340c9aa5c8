"""Games with labels: what test_models.py does not show of them by hand."""

import copy

import pytest
import torch
from games import GAMES, K, N, X, Z, ali, assert_same, batch, gradients
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from alikit.errors import AlikitError
from alikit.networks import mlp
from alikit.semi_supervised import KPlusOne, Supervised


def test_k_plus_one_of_one_class_is_ali():
    plain, (x, y) = ali(), batch("k+1")
    one = KPlusOne(plain.encoder, plain.decoder, plain.discriminator, Z, classes=1)
    torch.testing.assert_close(gradients(one, x, torch.zeros_like(y))[0], gradients(plain, x)[0])
    assert one.classify(x).shape == (N, 1)


@pytest.mark.parametrize(("game", "y"), [("k+1", torch.tensor([0, 1, 2, 3, 3])), ("k+1-explicit", None)])
def test_consistency_asks_the_discriminator_again_about_the_same_pictures_a_little_moved(game, y, monkeypatch):
    """It changes the discriminator's loss and gradient by its weight, and nobody else's."""
    monkeypatch.setattr("alikit.semi_supervised.shifted", lambda x: x + 0.1)
    model, (x, _) = GAMES[game](), batch(game)
    losses, found = gradients(model, x, y)
    model.consistency = 3.0
    more, moved = gradients(model, x, y)
    torch.manual_seed(1)
    (_, z_hat), p_pair = model.pairs(x)
    target = model.logits((x, z_hat), p_pair)[0][:, :K].softmax(1).detach()
    again = model.discriminator(x + 0.1, z_hat.detach())[:, :K].softmax(1)
    expected = 3 * (again - target).square().sum(1).mean()
    torch.testing.assert_close(more["discriminator"] - losses["discriminator"], expected)
    added = torch.autograd.grad(expected, [*model.discriminator.parameters()])
    for after, before, change in zip(moved["discriminator"], found["discriminator"], added, strict=True):
        torch.testing.assert_close(after - before, change, atol=1e-6, rtol=1e-4)
    assert_same((more["generator"], moved["generator"]), (losses["generator"], found["generator"]))
    assert expected > 1e-4


def test_losses_of_feature_matching_and_of_the_supervised_network():
    """The latter sees the labelled examples alone, which come last."""
    model, (x, y) = GAMES["feature-matching"](), batch("feature-matching")
    losses, found = gradients(model, x, y)
    torch.manual_seed(1)
    (_,), (x_tilde,) = model.pairs(x)
    features = model.discriminator.features(torch.cat([x, x_tilde]))
    q, p = model.discriminator.head(features).split(N)
    expected = softplus(-q.logsumexp(1)).mean() + softplus(p.logsumexp(1)).mean() + cross_entropy(q[-len(y) :], y)
    distance = (features[:N].mean(0) - features[N:].mean(0)).square().mean()
    torch.testing.assert_close(losses, {"discriminator": expected, "generator": distance})
    assert all(gradient.abs().sum() > 0 for gradient in found["generator"])
    assert gradients(model, x)[0]["generator"] == losses["generator"], "labels concern the discriminator alone"

    model = Supervised(mlp([X, 16, K]), K)
    expected = cross_entropy(model.classifier(x[-len(y) :]), y)
    torch.testing.assert_close(model.losses(torch.cat([x[: -len(y)] + 9, x[-len(y) :]]), y), {"classifier": expected})
    assert torch.equal(model.classify(x), model.classifier(x)) and not model.classify(x).requires_grad
    for ask, message in ((lambda: model.sample(3), "draws nothing"), (lambda: model.encode(x), "no codes")):
        with pytest.raises(AlikitError, match=message):
            ask()


@pytest.mark.parametrize("kind", ["k+1", "k+1-explicit", "feature-matching"])
def test_classes_are_guessed_without_chance(kind):
    """By mu, without dropout, and without the logit of class K + 1, however large; the model is left as it was."""
    model, x = GAMES[kind](), torch.randn(N, X)
    model.discriminator.joint.insert(0, nn.Dropout(0.5))
    if kind == "k+1-explicit":
        model.discriminator.joint[-1].bias.data[K] = 100
    found, still = model.classify(x), copy.deepcopy(model).eval()
    assert_same(model.classify(x), found)
    assert found.shape == (N, K) and model.training and not found.requires_grad
    pair = (x,) if kind == "feature-matching" else (x, still.encoder.mean(x))
    torch.testing.assert_close(found, still.discriminator(*pair)[:, :K].detach())
