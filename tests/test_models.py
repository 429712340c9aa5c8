"""The games: losses and gradients written out by hand, and sampling and encoding that leave no trace."""

import copy
import math
import re
from itertools import chain

import pytest
import torch
from games import ENCODERS, GAMES, A, N, X, Z, ali, assert_same, batch, differ, discriminator, gan, gradients, snapshot
from torch import nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize, pad

import alikit
from alikit import Config, Trainer
from alikit.data import Dataset, digits
from alikit.errors import AlikitError
from alikit.models import VAE, inverse_mapping, mix, post_hoc_inference
from alikit.networks import Deterministic, Gaussian, NoiseInput, mlp

ADVERSARIAL = [name for name in GAMES if name not in ("inverse", "vae", "feature-matching")]
WITH_ENCODER = ["ali", "bigan", "noise", "gaussian-decoder", "post-hoc", "inverse", "vae", "k+1"]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(N, X) + 1


# Who owns what.


@pytest.mark.parametrize("game", GAMES)
def test_each_player_learns_its_own_parameters_and_all_of_them(game):
    model = GAMES[game]()
    players = {player: sorted(map(id, own)) for player, own in model.players().items()}
    assert sorted(chain(*players.values())) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    if "discriminator" in players:
        assert players["discriminator"] == sorted(map(id, model.discriminator.parameters()))
    losses, found = gradients(model, *batch(game))
    assert losses.keys() == players.keys()
    for gradient in sum(found.values(), ()):
        assert gradient.isfinite().all() and gradient.abs().sum() > 0


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("whole", [False, True])
def test_frozen_layers_do_not_learn_and_all_others_do(game, whole):
    """One in each network, or the first network."""
    model, (x, _) = GAMES[game](), batch(game)
    if whole:
        next(model.children()).requires_grad_(False)
    for network in () if whole else model.children():
        next(network.parameters()).requires_grad_(False)
    labels = torch.randint(2, (N, A), dtype=torch.uint8) if model.attributes else None
    before, trainer = snapshot(model), Trainer(model, Dataset("points", x, labels), Config(batch_size=N, lr=0.1))
    trainer.run(2)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != p.requires_grad, name


# Losses and gradients by hand, in float64: for each player a forward and a backward pass of its own.


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


def draw(conditional, v, *y):
    """What calling a conditional does, written out."""
    conditional = getattr(conditional, "conditional", conditional)  # of a frozen one
    if isinstance(conditional, Gaussian):
        mu, log_sigma = conditional.net(v, *y).tensor_split(2, dim=1)
        return mu + torch.exp(log_sigma) * torch.randn(mu.shape)
    if isinstance(conditional, NoiseInput):
        return conditional.net(torch.cat([v, torch.randn(len(v), 2)], 1))
    return conditional.net(v, *y)


def by_hand(model, player, x, y):
    torch.manual_seed(1)
    condition = (y,) if model.attributes else ()
    z_hat = () if model.encoder is None else (draw(model.encoder, x, *condition),)
    z = torch.randn(N, Z)
    x_tilde = draw(model.decoder, z, *condition)
    if model.classes:  # the encoder does not learn from pairs whose class is known
        z_hat = (torch.cat([z_hat[0][: -len(y)], z_hat[0][-len(y) :].detach()]),)
    q_pair, p_pair = (x, *z_hat, *condition), (x_tilde, *(z for _ in z_hat), *condition)

    def logits(q_pair):  # one pass through D for both pairs, which share batch norm
        d = model.discriminator(*map(torch.cat, zip(q_pair, p_pair, strict=True)))
        every = pad(d, (0, model.classes + 1 - d.shape[1])) if model.classes else None
        return d, d if every is None else every[:, :-1].logsumexp(1) - every[:, -1]

    coins = torch.get_rng_state()
    d, real = logits(q_pair)
    d_q, d_p = real.split(N)
    if player == "generator":
        return -logsigmoid(d_p).mean() - (logsigmoid(-d_q).mean() if z_hat else 0)
    loss = -(logsigmoid(d_q) + logsigmoid(-d_p)).mean()
    if model.classes:
        loss = loss + cross_entropy(d[:N][-len(y) :, : model.classes], y)
    if model.r1:  # D's own slope, with z_hat a number like any other
        torch.set_rng_state(coins)
        q_pair = [member.detach().requires_grad_() for member in q_pair]
        members = q_pair[:-1] if model.attributes else q_pair
        slopes = torch.autograd.grad(logits(q_pair)[1][:N].sum(), members, create_graph=True)
        loss = loss + model.r1 / 2 * sum((slope**2).sum() for slope in slopes) / N
    return loss


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("r1", [0.0, 0.3])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("game", ADVERSARIAL)
def test_losses_and_gradients_by_hand(game, batch_norm, r1, monkeypatch):
    """Batch norm: each logit depends on every pair. Without it, with the dropout and maxout of our own networks."""
    model, (x, y) = GAMES[game](), batch(game)
    model.r1, known = r1, y
    if not batch_norm:
        first, last = model.discriminator.joint[0], model.discriminator.joint[-1]
        model.discriminator.joint = mlp([first.in_features, 8, 8, last.out_features], pieces=3, dropout=0.2)
    if model.attributes:
        monkeypatch.setattr(model, "condition", lambda y, n: (y,))  # which makes it float32 otherwise
        known = y = y.double()
    before = x.clone()
    losses, found = gradients(model, x, y)
    assert torch.equal(x, before) and not x.requires_grad, "the batch stays as it was"
    for player, own in model.players().items():
        expected = by_hand(model, player, x, known)
        torch.testing.assert_close(losses[player], expected)
        torch.testing.assert_close(found[player], torch.autograd.grad(expected, own))


@pytest.mark.parametrize("name", ["digits", "digits-vae", "digits-conditional", "digits-semi-consistent", "digits-gan"])
def test_pixels_at_the_ends_of_their_range_have_a_slope(name):
    """Nothing clamps on the way to a loss, which would take the gradient of black and white from R1 and the players."""
    recipe, x = alikit.RECIPES[name], (digits().floats(slice(10)) > 0.5).float()
    model = recipe.build((1, 8, 8), classes=10 if recipe.has_labels else None, attributes=10)
    model.r1 = 0.1  # of a VAE's it is nothing
    y = torch.eye(10) if recipe.is_conditional else torch.tensor([0, 1]) if recipe.has_labels else None
    waiting, seen = [loss.grad_fn for loss in model.losses(x.requires_grad_(), y).values()], set()
    while waiting:
        if (node := waiting.pop()) is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    kinds = {node.name() for node in seen}
    assert len(kinds) > 5 and not re.search("(?i)clamp|hardtanh", " ".join(kinds)), kinds


@pytest.mark.parametrize("encoder", ["gaussian", "deterministic", "noise"])
def test_codes_pictures_and_logits_are_not_rounded_to_bfloat16(encoder, x):
    model = ali(encoder)
    with torch.autocast("cpu", torch.bfloat16):
        pairs = model.pairs(x)
        numbers = [*sum(pairs, ()), *model.logits(*pairs), model.encoder.mean(x), *model.losses(x).values()]
    assert {tensor.dtype for tensor in numbers} == {torch.float32}


# Games without a discriminator.


def test_inverse_mapping(x):
    model = GAMES["inverse"]()
    found = gradients(model, x)[0]["encoder"]
    torch.manual_seed(1)
    z = torch.randn(N, Z)
    torch.testing.assert_close(found, ((z - draw(model.encoder, model.decoder(z))) ** 2).sum() / N)
    assert gradients(model, x)[0] == gradients(model, x / 0)[0], "it never sees data"


def test_vae_by_hand():
    """log N(x; Gx(z), 0.5^2) of all pixels less the divergence of N(mu, sigma^2) from N(0, 1)."""
    encoder = Gaussian(nn.Sequential(nn.Flatten(), mlp([12, 8, 2 * Z])))
    decoder = Deterministic(nn.Sequential(mlp([Z, 8, 12]), nn.Unflatten(1, (3, 2, 2))))
    model, x = VAE(encoder, decoder, Z, scale=0.5), torch.randn(N, 3, 2, 2)
    losses, found = gradients(model, x)
    torch.manual_seed(1)
    mu, log_sigma = encoder.net(x).tensor_split(2, dim=1)
    errors = (x - decoder.net(mu + log_sigma.exp() * torch.randn(N, Z))).square().sum((1, 2, 3))
    evidence = -errors / (2 * model.log_scale.exp() ** 2) - 12 * (model.log_scale + math.log(2 * math.pi) / 2)
    divergence = ((log_sigma.exp() ** 2 + mu**2 - 1) / 2 - log_sigma).sum(1)
    expected = (divergence - evidence).mean()
    torch.testing.assert_close(losses["autoencoder"], expected)
    torch.testing.assert_close(found["autoencoder"], torch.autograd.grad(expected, [*model.parameters()]))
    assert model.log_scale.item() == pytest.approx(math.log(0.5))


@pytest.mark.parametrize("build", [lambda *parts: post_hoc_inference(*parts, discriminator(X, Z)), inverse_mapping])
def test_a_frozen_decoder_stays_as_it_was_and_so_does_the_gan_it_comes_from(build):
    start = gan()
    before, model = snapshot(start), build(start, ENCODERS["gaussian"]())
    encoder = snapshot(model.encoder)
    Trainer(model, Dataset("points", torch.randn(50, X)), Config(batch_size=N, lr=0.1)).run(steps=5)
    assert_same(snapshot(model.decoder.conditional), snapshot(start.decoder))
    assert_same(snapshot(start), before)
    assert differ(snapshot(model.encoder), encoder)
    assert all(p.requires_grad for p in start.parameters()) and all(m.training for m in start.modules())


# Sampling, encoding, decoding.


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("game", WITH_ENCODER)
def test_inference_leaves_no_trace(game, training, x):
    """An example alone gets the answer it gets in company: batch norm uses its running statistics."""
    model = GAMES[game]()
    sum(model.losses(x).values()).backward()

    def trace():
        state = (
            model.state_dict(),
            [p.grad for p in model.parameters()],
            [module.training for module in model.modules()],
        )
        return copy.deepcopy(state)

    model.train(training)
    before = trace()
    for answer, shape in (
        (model.sample(4), (4, X)),
        (model.encode(x), (N, Z)),
        (model.decode(torch.randn(4, Z)), (4, X)),
        (model.reconstruct(x), (N, X)),
        (model.interpolate(x[:4], x[4:8], steps=5), (4, 5, X)),
    ):
        assert answer.shape == shape and not answer.requires_grad
    torch.testing.assert_close(model.encode(x, sample=False)[:1], model.encode(x[:1], sample=False))
    with pytest.raises(KeyError), model.inference():
        assert not model.training and not torch.is_grad_enabled()
        raise KeyError
    assert_same(trace(), before)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, x: m.encode(x), "a GAN cannot encode.*inverse_mapping or post_hoc_inference"),
        (lambda m, x: m.sample(0), "at least 1"),
        (lambda m, x: m.sample(4, torch.zeros(5)), "takes no condition: leave y out"),
        (lambda m, x: m.classify(x), "knows no classes: train a recipe with labels"),
        (lambda m, x: mix(x, x, steps=1), "2 ends"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(ask, message, x):
    with pytest.raises(AlikitError, match=message):
        ask(gan(), x)


@pytest.mark.parametrize(
    ("recipe", "ask", "message"),
    [
        ("cifar10-small", lambda m: m.encode(torch.rand(2, 3, 64, 64)), "2 x 3 x 64 x 64 .* is not N x 3 x 32 x 32"),
        ("cifar10-small", lambda m: m.reconstruct(torch.rand(2, 3, 48, 48)), "is not N x 3 x 32 x 32 floats"),
        ("digits", lambda m: m.encode(torch.rand(1, 8, 8)), "1 x 8 x 8 .* is not N x 1 x 8 x 8 floats"),
        ("digits", lambda m: m.encode(digits().x), "uint8 is not N x 1 x 8 x 8 floats, .*see data.floats"),
        ("digits", lambda m: m.encode(2 * digits().floats() - 1), "x goes from -1 to 1, and pictures from 0 to 1"),
        ("digits", lambda m: m.reconstruct(digits().x.float()), "x goes from 0 to 255, and pictures from 0 to 1"),
        ("digits", lambda m: m.encode(digits().floats() * torch.nan), "x goes from nan to nan"),
        ("digits", lambda m: m.decode(torch.randn(3, 15)), "3 x 15 .* is not N x 16 floats"),
        ("digits", lambda m: m.sample(0), "cannot draw 0 samples"),
        ("digits-semi", lambda m: m.classify(torch.rand(1, 1, 9, 9)), "is not N x 1 x 8 x 8 floats"),
        ("digits-supervised", lambda m: m.classify(torch.rand(1, 3, 8, 8)), "is not N x 1 x 8 x 8 floats"),
        ("mixture-ali", lambda m: m.encode(torch.rand(5, 3)), "5 x 3 .* is not N x 2 floats"),
    ],
)
def test_examples_and_codes_of_another_shape_or_range_are_refused(recipe, ask, message):
    shape = {"cifar10-small": (3, 32, 32), "mixture-ali": (2,)}.get(recipe, (1, 8, 8))
    model = alikit.RECIPES[recipe].build(shape, classes=10 if alikit.RECIPES[recipe].has_labels else None)
    with pytest.raises(AlikitError, match=message):
        ask(model)
    if recipe == "digits":  # a NumPy array of doubles will do
        assert model.encode(digits().floats().double().numpy()).shape == (1797, 16)


def test_what_is_drawn_and_what_is_a_mean(x):
    model, z = ali(decoder="gaussian"), torch.randn(4, Z)
    model.prior = lambda n: z
    assert differ(model.sample(4), model.sample(4))
    assert differ(model.reconstruct(x), model.reconstruct(x))
    assert_same(model.decode(z), model.decode(z))
    assert_same(model.reconstruct(x, sample=False), model.decode(model.encode(x, sample=False)))


# Paths between codes.


def test_paths_by_hand(x):
    a, b = torch.randn(2, 4, Z)
    path = mix(a, b, steps=5)
    torch.testing.assert_close(path, torch.stack([a, 0.75 * a + 0.25 * b, (a + b) / 2, 0.25 * a + 0.75 * b, b], 1))
    model = ali()
    for spherical in (False, True):
        path = model.interpolate(x[:5], x[5:], steps=7, spherical=spherical)
        ends = model.reconstruct(x[:5], sample=False), model.reconstruct(x[5:], sample=False)
        torch.testing.assert_close((path[:, 0], path[:, -1]), ends)


@pytest.mark.parametrize("longer", [1.0, 3.0])
@pytest.mark.parametrize("degrees", [0.0, 0.3, 1.0, 30.0, 90.0, 150.0, 179.0, 179.7, 180.0])
def test_a_spherical_path_turns_at_a_steady_pace_and_is_straight_between_codes_on_one_line(degrees, longer):
    turn = torch.tensor(degrees).deg2rad()
    a, rotation = torch.tensor([[0.6, 0.8]]), torch.tensor([[turn.cos(), turn.sin()], [-turn.sin(), turn.cos()]])
    b = longer * a @ rotation
    path = mix(a, b, steps=9, spherical=True)[0]
    torch.testing.assert_close(path[[0, -1]], torch.cat([a, b]), atol=1e-5, rtol=0)
    assert path.norm(dim=1).max() < 1.01 * longer
    if degrees in (0, 180):
        torch.testing.assert_close(path, mix(a, b, steps=9)[0], atol=1e-3, rtol=0)
    elif degrees < 179.5:
        torch.testing.assert_close(path.norm(dim=1), torch.linspace(1, longer, 9), atol=0.01, rtol=0)
    if 1 < degrees < 179:
        way = normalize(path, dim=1)
        turns = (way[1:] * way[:-1]).sum(1).acos()
        torch.testing.assert_close(turns, (turn / 8).expand(8), atol=1e-3, rtol=0)
    assert mix(a, 0 * a, 5, spherical=True).isfinite().all()
