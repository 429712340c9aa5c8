"""Games with labels: each loss against its definition, both forms of K + 1 classes, and what learns from what."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, softplus

import alikit
from alikit.errors import AlikitError
from alikit.evaluation import classification
from alikit.losses import class_surprise, disagreement, realness
from alikit.models import ALI
from alikit.networks import Deterministic, Discriminator, Gaussian, mlp
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne, Supervised

X, Z, K = 5, 3, 4


def game(kind: str, outputs: int = K, dropout: float = 0.0, batch_norm: bool = False):
    torch.manual_seed(0)
    decoder = Deterministic(mlp([Z, 16, X]))
    if kind == "feature-matching":
        joint = mlp([X, 16, 16, outputs], pieces=2, dropout=dropout)
        return FeatureMatchingGAN(decoder, Discriminator([nn.Identity()], joint), Z, K)
    joint = mlp([X + Z, 16, 16, outputs], pieces=0 if batch_norm else 2, dropout=dropout, batch_norm=batch_norm)
    discriminator = Discriminator([nn.Identity(), nn.Identity()], joint)
    return KPlusOne(Gaussian(mlp([X, 16, 2 * Z])), decoder, discriminator, Z, K)


@pytest.fixture
def x():
    return torch.randn(12, X, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def y():
    return torch.tensor([0, 1, 2, 3, 3])


@pytest.mark.parametrize("outputs", [K, K + 1])
def test_realness_and_class_surprise_make_the_probabilities_of_all_classes(outputs):
    logits = torch.randn(7, outputs, dtype=torch.float64)
    labels = torch.arange(7) % K
    every = torch.cat([logits, torch.zeros(7, 1)], 1) if outputs == K else logits
    log_p = log_softmax(every, 1)
    real = realness(logits, K)
    torch.testing.assert_close(-softplus(real), log_p[:, K])
    torch.testing.assert_close(-softplus(-real), log_p[:, :K].logsumexp(1))
    whole = -log_p[torch.arange(7), labels].mean()
    torch.testing.assert_close(class_surprise(logits, labels, K) + softplus(-real).mean(), whole)


@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("outputs", [K, K + 1])
def test_large_logits(outputs, size):
    """Right and sure costs nothing, wrong and sure costs the distance; no NaN, and no infinite gradient."""
    logits = torch.zeros(2, outputs)
    logits[0, 1], logits[1, :K] = size, -size
    logits.requires_grad_()
    real = realness(logits, K)
    assert real.tolist() == pytest.approx([size, -size], rel=1e-3)
    assert class_surprise(logits[:1], torch.tensor([1]), K).item() == 0
    assert class_surprise(logits[:1], torch.tensor([0]), K).item() == pytest.approx(size)
    loss = softplus(-real).sum() + class_surprise(logits, torch.tensor([0, 0]), K)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()


def test_both_forms_are_one_game(x, y):
    """Only differences of logits count: K + 1 logits, less the last, are the K of the other form, to the gradients of
    encoder and decoder."""
    explicit, fixed = game("k+1", K + 1), game("k+1", K)
    state, last = explicit.state_dict(), f"discriminator.joint.{len(explicit.discriminator.joint) - 1}"
    for name in ("weight", "bias"):
        full = state[f"{last}.{name}"]
        state[f"{last}.{name}"] = full[:K] - full[K]
    fixed.load_state_dict(state)
    found = []
    for model in (explicit, fixed):
        torch.manual_seed(2)
        losses, gradients = model.gradients(x, y)
        found.append((losses, gradients["generator"]))
        torch.testing.assert_close(model.classify(x).softmax(1), explicit.classify(x).softmax(1))
    torch.testing.assert_close(found[0], found[1])


def test_losses_of_the_k_plus_one_game(x, y):
    """Word for word: q's pairs are real, of whatever class, p's are class K + 1; the labelled are their class among the
    real; encoder and decoder want the opposite of the first two."""
    model = game("k+1", K + 1)
    torch.manual_seed(2)
    losses = model.losses(x, y)
    torch.manual_seed(2)
    (_, z_hat), (x_tilde, z) = model.pairs(x)
    p_q = model.discriminator(x, z_hat).softmax(1)
    p_p = model.discriminator(x_tilde, z).softmax(1)
    of_labelled = p_q[-len(y) :, :K] / p_q[-len(y) :, :K].sum(1, keepdim=True)
    named = -of_labelled[torch.arange(len(y)), y].log().mean()
    told_apart = -(1 - p_q[:, K]).log().mean() - p_p[:, K].log().mean()
    torch.testing.assert_close(losses["discriminator"], told_apart + named)
    torch.testing.assert_close(losses["generator"], -p_q[:, K].log().mean() - (1 - p_p[:, K]).log().mean())


def test_without_labels_it_is_ali_with_the_logit_for_real(x):
    model = game("k+1")

    class Real(nn.Module):
        def __init__(self, discriminator):
            super().__init__()
            self.discriminator = discriminator

        def forward(self, *pair):
            return self.discriminator(*pair).logsumexp(1)

    two_class = ALI(model.encoder, model.decoder, Real(model.discriminator), Z)
    torch.manual_seed(2)
    expected = two_class.losses(x)
    torch.manual_seed(2)
    torch.testing.assert_close(model.losses(x), expected)


@pytest.mark.parametrize("outputs", [K, K + 1])
@pytest.mark.parametrize("r1", [0.0, 0.3])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_one_backward_pass_gives_the_gradients_of_two(x, y, outputs, r1, batch_norm):
    model = game("k+1", outputs, batch_norm=batch_norm)
    model.r1 = r1
    torch.manual_seed(2)
    losses, gradients = model.gradients(x, y)
    torch.manual_seed(2)
    expected = model.losses(x, y)
    torch.testing.assert_close(losses, expected)
    for player, own in model.players().items():
        torch.testing.assert_close(gradients[player], torch.autograd.grad(expected[player], own, retain_graph=True))


def test_the_encoder_does_not_see_the_labels(x, y):
    """Classes are told to D alone: other labels move it, and leave encoder and decoder where they are."""
    model, found = game("k+1"), []
    for labels in (y, (y + 1) % K):
        torch.manual_seed(2)
        found.append(model.gradients(x, labels)[1])
    torch.testing.assert_close(found[0]["generator"], found[1]["generator"], rtol=0, atol=0)
    assert not all(map(torch.equal, found[0]["discriminator"], found[1]["discriminator"]))


class Pictures(nn.Module):
    """A discriminator of pictures and codes, without chance; it keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.net, self.shown = nn.Linear(16 + Z, K), []

    def forward(self, x, z):
        self.shown.append((x, z))
        return self.net(torch.cat([x.flatten(1), z], 1))


def consistent(weight: float) -> KPlusOne:
    torch.manual_seed(0)
    encoder = Gaussian(nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * Z)))
    decoder = Deterministic(nn.Sequential(nn.Linear(Z, 16), nn.Unflatten(1, (1, 4, 4))))
    return KPlusOne(encoder, decoder, Pictures(), Z, K, consistency=weight)


def test_disagreement():
    one, other = torch.tensor([[0.0, 50.0], [0.0, 0.0]]), torch.tensor([[50.0, 0.0], [7.0, 7.0]])
    assert disagreement(one, other, 2).item() == pytest.approx(1)  # 2 where they contradict each other, 0 where not
    assert disagreement(torch.cat([one, torch.randn(2, 1)], 1), other, 2).item() == pytest.approx(1)
    assert disagreement(one, one + 3, 2).item() == pytest.approx(0)
    one.requires_grad_(), other.requires_grad_()
    disagreement(one + 1, other, 2).backward()
    assert one.grad is not None and other.grad is None


@pytest.mark.parametrize("labelled", [True, False])
def test_consistency_asks_again_about_the_same_pictures_a_little_moved(labelled):
    x, y = torch.rand(12, 1, 4, 4), torch.tensor([0, 1, 2, 3, 3]) if labelled else None
    found = {}
    for weight in (0.0, 3.0):
        model = consistent(weight)
        torch.manual_seed(2)
        found[weight] = model.losses(x, y)
    assert torch.equal(found[0.0]["generator"], found[3.0]["generator"])
    (first_x, first_z), (second_x, second_z) = model.discriminator.shown  # the first with p's pairs behind q's
    assert torch.equal(first_x[:12], x) and torch.equal(first_z[:12], second_z)
    assert not torch.equal(second_x, x) and set(second_x.flatten().tolist()) <= set(x.flatten().tolist())
    told, again = (model.discriminator(first_x[:12], first_z[:12]), model.discriminator(second_x, second_z))
    expected = (again.softmax(1) - told.softmax(1)).square().sum(1).mean()
    assert expected > 1e-4
    torch.testing.assert_close(found[3.0]["discriminator"] - found[0.0]["discriminator"], 3 * expected)


def test_consistency_is_for_the_discriminator_alone():
    x, y, found = torch.rand(12, 1, 4, 4), torch.tensor([0, 1, 2, 3, 3]), {}
    for weight in (0.0, 3.0):
        model = consistent(weight)
        torch.manual_seed(2)
        found[weight] = model.gradients(x, y)[1]
    torch.testing.assert_close(found[0.0]["generator"], found[3.0]["generator"], rtol=0, atol=0)
    assert not all(map(torch.equal, found[0.0]["discriminator"], found[3.0]["discriminator"]))
    torch.manual_seed(2)
    losses = model.losses(x, y)
    for player, own in model.players().items():  # one backward pass gives what two give
        expected = torch.autograd.grad(losses[player], own, retain_graph=True)
        torch.testing.assert_close(found[3.0][player], expected)


def test_losses_of_feature_matching(x, y):
    model = game("feature-matching")
    torch.manual_seed(2)
    losses = model.losses(x, y)
    torch.manual_seed(2)
    (_,), (x_tilde,) = model.pairs(x)
    q, p = model.discriminator(x), model.discriminator(x_tilde)
    expected = softplus(-q.logsumexp(1)).mean() + softplus(p.logsumexp(1)).mean() + cross_entropy(q[-len(y) :], y)
    torch.testing.assert_close(losses["discriminator"], expected)
    distance = model.discriminator.features(x).mean(0) - model.discriminator.features(x_tilde).mean(0)
    torch.testing.assert_close(losses["generator"], distance.square().mean())
    gradients = model.gradients(x, y)[1]
    assert all(g.abs().sum() > 0 for g in gradients["generator"])


def test_losses_of_the_supervised_network(x, y):
    model = Supervised(mlp([X, 16, K]), K)
    expected = cross_entropy(model.classifier(x[-len(y) :]), y)
    torch.testing.assert_close(model.losses(x, y), {"classifier": expected})
    changed = x.clone()
    changed[: -len(y)] = 0
    torch.testing.assert_close(model.losses(changed, y), {"classifier": expected})


@pytest.mark.parametrize("kind", ["k+1", "feature-matching"])
def test_a_class_is_guessed_without_chance(kind, x):
    """By mu, and without dropout; the model is left as it was."""
    model = game(kind, dropout=0.5).train()
    assert torch.equal(model.classify(x), model.classify(x))
    assert model.classify(x).shape == (len(x), K) and model.training and not model.classify(x).requires_grad
    if kind == "k+1":
        still = copy.deepcopy(model).eval()
        torch.testing.assert_close(model.classify(x), still.discriminator(x, still.encoder.mean(x)))


def test_a_guess_leaves_class_k_plus_one_out(x):
    model = game("k+1", K + 1)
    model.discriminator.joint[-1].bias.data[K] = 100
    assert model.classify(x).shape == (len(x), K)


def test_pictures_without_names_help():
    """50 labelled digits, in 800 steps: with 1,450 more that have no name it errs less, as the course says."""
    train, held_out = alikit.load("digits")
    errors = {}
    for name in ("digits-supervised", "digits-semi"):
        recipe = replace(alikit.RECIPES[name], steps=800, labels=50)
        torch.manual_seed(0)
        model = recipe.build(train.shape, train.mean(), classes=10)
        trainer = recipe.trainer(model, train)
        trainer.run(recipe.steps)
        errors[name] = classification(trainer.result, held_out).error
    assert errors["digits-semi"] < errors["digits-supervised"] - 0.03, errors


def test_games_without_labels_say_so(x, y):
    model = ALI(
        Gaussian(mlp([X, 8, 2 * Z])),
        Deterministic(mlp([Z, 8, X])),
        Discriminator([nn.Identity()] * 2, mlp([X + Z, 8, 1])),
        Z,
    )
    with pytest.raises(AlikitError, match="is told nothing"):
        model.losses(x, y)
    with pytest.raises(AlikitError, match="a recipe with labels"):
        model.classify(x)
    with pytest.raises(AlikitError, match="draws nothing"):
        Supervised(mlp([X, 8, K]), K).sample(3)


def test_one_class_is_ali():
    """K = 1: a sum of one term, and no doubt about the class."""
    model, x = game("k+1", 1), torch.randn(6, X)
    model.classes = 1
    torch.manual_seed(2)
    losses = model.losses(x, torch.zeros(2, dtype=torch.long))
    torch.manual_seed(2)
    expected = ALI.losses(ALI(model.encoder, model.decoder, model.discriminator, Z), x)
    torch.testing.assert_close(losses, expected)
    assert model.classify(x).shape == (6, 1)
