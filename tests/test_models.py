"""The games: who learns from what, the losses written out by hand, and questions that leave no trace."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.models import ALI, GAN, VAE, inverse_mapping, mix, post_hoc_inference
from alikit.networks import Conv, Deterministic, Discriminator, Gaussian, NoiseInput, mlp
from alikit.recipes import PAPER_SVHN
from alikit.training import Trainer

X, Z, N = 3, 2, 10

ENCODERS = {
    "gaussian": lambda: Gaussian(mlp([X, 8, 2 * Z], batch_norm=True)),
    "deterministic": lambda: Deterministic(mlp([X, 8, Z], batch_norm=True)),
    "noise": lambda: NoiseInput(mlp([X + 2, 8, Z], batch_norm=True), noise=2),
}
DECODERS = {
    "deterministic": lambda: Deterministic(mlp([Z, 8, X], batch_norm=True)),
    "gaussian": lambda: Gaussian(mlp([Z, 8, 2 * X], batch_norm=True)),
}


def discriminator(inputs: int) -> Discriminator:
    """Batch norm shows whether both pairs went through in one pass."""
    return Discriminator([nn.Identity() for _ in range(2 if inputs > X else 1)], mlp([inputs, 8, 1], batch_norm=True))


def gan() -> GAN:
    return GAN(DECODERS["deterministic"](), discriminator(X), Z)


def ali(encoder="gaussian", decoder="deterministic") -> ALI:
    return ALI(ENCODERS[encoder](), DECODERS[decoder](), discriminator(X + Z), Z)


GAMES = {
    "gan": gan,
    "ali": ali,
    "bigan": lambda: ali("deterministic"),
    "noise": lambda: ali("noise"),
    "gaussian-decoder": lambda: ali("gaussian", "gaussian"),
    "post-hoc": lambda: post_hoc_inference(gan(), ENCODERS["gaussian"](), discriminator(X + Z)),
    "inverse": lambda: inverse_mapping(gan(), ENCODERS["gaussian"]()),
    "vae": lambda: VAE(ENCODERS["gaussian"](), DECODERS["deterministic"](), Z),
}
ADVERSARIAL = ("ali", "bigan", "noise", "gaussian-decoder")
WITH_ENCODER = [game for game in GAMES if game != "gan"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(N, X) + 1


@pytest.fixture
def model(request):
    return GAMES[request.param]()


def every(*names):
    return pytest.mark.parametrize("model", names, indirect=True)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(before: dict[str, torch.Tensor], module: nn.Module) -> bool:
    after = module.state_dict()
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


# Who owns what.


@pytest.mark.parametrize(
    ("model", "owned"),
    [
        ("gan", {"discriminator": {"discriminator"}, "generator": {"decoder"}}),
        *((game, {"discriminator": {"discriminator"}, "generator": {"encoder", "decoder"}}) for game in ADVERSARIAL),
        ("post-hoc", {"discriminator": {"discriminator"}, "generator": {"encoder"}}),
        ("inverse", {"encoder": {"encoder"}}),
        ("vae", {"autoencoder": {"encoder", "decoder", "log_scale"}}),
    ],
    indirect=["model"],
)
def test_players(model, owned):
    part_of = {id(p): name.partition(".")[0] for name, p in model.named_parameters()}
    found = {player: {part_of[id(p)] for p in own} for player, own in model.players().items()}
    assert found == owned
    for parts, own in zip(owned.values(), model.players().values(), strict=True):
        assert len({id(p) for p in own}) == len(own) == sum(part in parts for part in part_of.values())


@every(*GAMES)
def test_every_parameter_learns_from_its_own_player(model, x):
    losses = model.losses(x)
    assert losses.keys() == model.players().keys()
    for player, own in model.players().items():
        for gradient in torch.autograd.grad(losses[player], own, retain_graph=True):
            assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_gan_generator_is_not_paid_on_data(x):
    """One row of data is far off: it moves the discriminator's loss but, without batch norm, not the decoder's."""
    model = GAN(DECODERS["deterministic"](), Discriminator([nn.Identity()], mlp([X, 8, 1])), Z)
    losses = []
    for data in (x, x + 5):
        torch.manual_seed(1)
        losses.append(model.losses(data))
    assert losses[0]["generator"] == losses[1]["generator"]
    assert losses[0]["discriminator"] != losses[1]["discriminator"]


# The losses, by hand and from the same noise.


def draw(conditional, v):
    """What calling a conditional must do, written out."""
    if isinstance(conditional, Gaussian):
        mu, log_sigma = conditional.net(v).tensor_split(2, dim=1)
        return mu + torch.exp(log_sigma) * torch.randn(mu.shape)
    if isinstance(conditional, NoiseInput):
        return conditional.net(torch.cat([v, torch.randn(len(v), 2)], 1))
    return conditional.net(v)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_ali_losses(encoder, decoder, x):
    model = ali(encoder, decoder)
    torch.manual_seed(1)
    found = model.losses(x)

    torch.manual_seed(1)
    z_hat = draw(model.encoder, x)
    z = torch.randn(N, Z)
    x_tilde = draw(model.decoder, z)
    q_pairs, p_pairs = torch.cat([x, z_hat], 1), torch.cat([x_tilde, z], 1)
    d = model.discriminator.joint(torch.cat([q_pairs, p_pairs]))[:, 0]
    d_q, d_p = d[:N], d[N:]
    torch.testing.assert_close(found["discriminator"], (softplus(-d_q) + softplus(d_p)).mean())
    torch.testing.assert_close(found["generator"], (softplus(d_q) + softplus(-d_p)).mean())


def test_gan_losses(x):
    model = gan()
    torch.manual_seed(1)
    found = model.losses(x)

    torch.manual_seed(1)
    x_tilde = model.decoder.net(torch.randn(N, Z))
    d = model.discriminator.joint(torch.cat([x, x_tilde]))[:, 0]
    d_q, d_p = d[:N], d[N:]
    torch.testing.assert_close(found["discriminator"], (softplus(-d_q) + softplus(d_p)).mean())
    torch.testing.assert_close(found["generator"], softplus(-d_p).mean())


@every("gan", *ADVERSARIAL, "post-hoc")
def test_both_pairs_go_through_the_discriminator_together(model, x):
    linear, norm, *_ = model.discriminator.joint
    seen = []
    linear.register_forward_pre_hook(lambda module, pair: seen.append(*pair))
    model.losses(x)
    (pairs,) = seen
    assert len(pairs) == 2 * N and torch.equal(pairs[:N, :X], x)
    torch.testing.assert_close(norm.running_mean, 0.05 * linear(pairs).mean(0))


def test_inverse_mapping_loss(x):
    model = GAMES["inverse"]()
    torch.manual_seed(1)
    found = model.losses(x)["encoder"]

    torch.manual_seed(1)
    z = torch.randn(N, Z)
    z_hat = draw(model.encoder, model.decoder.conditional.net(z))
    torch.testing.assert_close(found, sum(((z - z_hat) ** 2).flatten()) / N)


def test_inverse_mapping_never_sees_data(x):
    model = GAMES["inverse"]().eval()
    losses = []
    for data in (x, torch.full((N, X), torch.nan)):
        torch.manual_seed(1)
        losses.append(model.losses(data)["encoder"].item())
    assert losses[0] == losses[1]


def linear(weight, bias) -> nn.Linear:
    weight, bias = torch.tensor(weight), torch.tensor(bias)
    layer = nn.Linear(*reversed(weight.shape))
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def linear_gaussian_vae() -> VAE:
    """p(x|z) = N(2 z + 1, 0.5^2), q(z|x) = N(0.3 x, 0.6^2)."""
    encoder = Gaussian(linear([[0.3], [0.0]], [0.0, math.log(0.6)]))
    return VAE(encoder, Deterministic(linear([[2.0]], [1.0])), z_dim=1, scale=0.5)


def test_vae_loss_in_closed_form():
    """E_q[log p(x|z)] is a Gaussian integral: the squared error at the mean plus (2 sigma)^2."""
    x = 1.7
    mu, sigma, scale = 0.3 * x, 0.6, 0.5
    likelihood = -math.log(scale * math.sqrt(2 * math.pi)) - ((x - 2 * mu - 1) ** 2 + (2 * sigma) ** 2) / (2 * scale**2)
    kl = (sigma**2 + mu**2 - 1) / 2 - math.log(sigma)
    found = linear_gaussian_vae().losses(torch.full((400_000, 1), x))["autoencoder"].item()
    assert found == pytest.approx(kl - likelihood, abs=0.02)


def test_vae_gradient_in_closed_form():
    """By mu's bias: of (x - 2 mu - 1)^2 / (2 scale^2) + mu^2 / 2, so that it must pass through the draw of z."""
    vae, x = linear_gaussian_vae(), 1.7
    vae.losses(torch.full((400_000, 1), x))["autoencoder"].backward()
    mu = 0.3 * x
    assert vae.encoder.net.bias.grad[0].item() == pytest.approx(-2 * (x - 2 * mu - 1) / 0.5**2 + mu, abs=0.05)


def test_vae_bound_is_tight_at_the_true_posterior():
    """There the bound is log p(x): x ~ N(1, 2^2 + 0.5^2) and z | x ~ N(2 (x - 1) / 4.25, 0.5^2 / 4.25)."""
    vae, x = linear_gaussian_vae(), torch.tensor([[1.7]])
    vae.encoder.net = linear([[2 / 4.25], [0.0]], [-2 / 4.25, math.log(0.25 / 4.25) / 2])
    evidence = torch.distributions.Normal(1.0, math.sqrt(4.25)).log_prob(x).item()
    losses = vae.losses(x.expand(400_000, 1))["autoencoder"].item()
    assert losses == pytest.approx(-evidence, abs=0.005)


def test_vae_sums_over_all_pixels():
    """Twice the pixels, all alike: twice the log-likelihood."""
    x = torch.randn(5, 1, 2, 2)
    encoder = Gaussian(nn.Sequential(nn.Flatten(), linear([[0.0] * 4, [0.0] * 4], [0.0, 0.0])))
    vae = VAE(encoder, Deterministic(nn.Sequential(linear([[0.0]] * 4, [0.0] * 4), nn.Unflatten(1, (1, 2, 2)))), 1)
    expected = (x.square().sum((1, 2, 3)) / 2 + 4 * math.log(2 * math.pi) / 2).mean()
    torch.testing.assert_close(vae.losses(x)["autoencoder"], expected)


# One backward pass for both players, against the textbook: each player's own loss, differentiated by itself.

AGAINST = ("gan", *ADVERSARIAL, "post-hoc")
SPREAD = (torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0] * 2), torch.tensor([1.0, 0.0, -0.5, -1.0, 0.5] * 2))
VERDICTS = {  # on q's pairs and on p's
    "spread": SPREAD,
    "right": (torch.ones(N), -torch.ones(N)),
    "wrong": (-torch.ones(N), torch.ones(N)),
    "all-q": (torch.ones(N), torch.ones(N)),
    "all-p": (-torch.ones(N), -torch.ones(N)),
}


class Told(nn.Module):
    """A discriminator whose logits are what it is told, and whose gradients are its own."""

    def __init__(self, discriminator: nn.Module, q_logits: torch.Tensor, p_logits: torch.Tensor):
        super().__init__()
        self.discriminator = discriminator
        self.register_buffer("logits", torch.cat([q_logits, p_logits]))

    def forward(self, *pair):
        logits = self.discriminator(*pair)
        return logits - logits.detach() + self.logits


def without_batch_norm(name: str):
    """The game with a discriminator of maxout and dropout, as the package's own for points."""
    model, inputs = GAMES[name](), X if name == "gan" else X + Z
    towers = [nn.Identity() for _ in range(1 if name == "gan" else 2)]
    model.discriminator = Discriminator(towers, mlp([inputs, 8, 8, 1], pieces=3, dropout=0.2))
    return model


@pytest.fixture
def same_noise(monkeypatch):
    """Noise that is the same in float64 as in float32, so that the one can be the other's reference."""
    randn = torch.randn
    monkeypatch.setattr(
        torch, "randn", lambda *size, **_: randn(*size, dtype=torch.float).to(torch.get_default_dtype())
    )
    monkeypatch.setattr(torch, "randn_like", lambda v: randn(v.shape, dtype=torch.float).to(v.dtype))


def textbook(model, x):
    """Losses and gradients by hand, in float64: for each player one forward and one backward pass, same noise."""
    model, x, losses, gradients = copy.deepcopy(model).double(), x.double(), {}, {}
    torch.set_default_dtype(torch.double)
    try:
        for player, own in model.players().items():
            torch.manual_seed(1)
            q_pair, p_pair = model.pairs(x)
            masks = torch.get_rng_state()
            d_q, d_p = model.discriminator(*map(torch.cat, zip(q_pair, p_pair, strict=True))).split(N)
            if player == "discriminator":
                loss = -(logsigmoid(d_q) + logsigmoid(-d_p)).mean()
                if model.r1:
                    torch.set_rng_state(masks)
                    q_pair = [member.detach().requires_grad_() for member in q_pair]
                    d_q = model.discriminator(*map(torch.cat, zip(q_pair, p_pair, strict=True)))[:N]
                    slopes = torch.autograd.grad(d_q.sum(), q_pair, create_graph=True)
                    loss = loss + model.r1 / 2 * sum((slope**2).sum() for slope in slopes) / N
            elif isinstance(model, GAN):
                loss = -logsigmoid(d_p).mean()
            else:
                loss = -(logsigmoid(-d_q) + logsigmoid(d_p)).mean()
            losses[player], gradients[player] = loss, torch.autograd.grad(loss, own)
    finally:
        torch.set_default_dtype(torch.float)
    return losses, gradients


def by_part(model, gradients) -> dict[str, torch.Tensor]:
    """All numbers of each network's gradient. One parameter's alone may cancel to nothing but rounding."""
    part_of = {id(p): name.partition(".")[0] for name, p in model.named_parameters()}
    parts: dict[str, list[torch.Tensor]] = {}
    for player, own in model.players().items():
        for parameter, gradient in zip(own, gradients[player], strict=True):
            assert gradient.shape == parameter.shape
            parts.setdefault(part_of[id(parameter)], []).append(gradient.detach().double().flatten())
    return {part: torch.cat(found) for part, found in parts.items()}


def assert_textbook(model, x, within: float = 1e-5):
    expected_losses, expected = textbook(model, x)
    torch.manual_seed(1)
    losses, found = model.gradients(x)
    assert losses.keys() == expected_losses.keys()
    for player, loss in losses.items():
        assert loss.item() == pytest.approx(expected_losses[player].item(), rel=1e-5)
    found, expected = by_part(model, found), by_part(model, expected)
    for part, gradient in found.items():
        assert expected[part].norm() > 0
        assert (gradient - expected[part]).norm() <= within * expected[part].norm(), part


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("r1", [0.0, 0.3])
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("game", AGAINST)
def test_gradients_are_the_textbook_ones(game, verdict, r1, x):
    model = without_batch_norm(game)
    model.r1 = r1
    model.discriminator = Told(model.discriminator, *(60 * logits for logits in VERDICTS[verdict]))
    assert_textbook(model, x)


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("largest", [1, 60])
@pytest.mark.parametrize("game", AGAINST)
def test_gradients_are_the_textbook_ones_on_a_steep_discriminator(game, largest, x):
    model = without_batch_norm(game)
    q_pair, p_pair = model.pairs(x)
    model.discriminator.joint[-1].weight.data *= largest / torch.cat(model.logits(q_pair, p_pair)).abs().max()
    assert_textbook(model, x)


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("r1", [0.0, 0.3])
@every(*AGAINST)
def test_gradients_are_the_textbook_ones_with_batch_norm(model, r1, x):
    """Where every logit depends on every pair, and a pair's gradients for the players are no multiples."""
    model.r1 = r1
    model.discriminator = Told(model.discriminator, *SPREAD)
    assert_textbook(model, x)


@pytest.mark.usefixtures("same_noise")
@every("ali", "gan")
def test_gradients_of_pictures_are_the_textbook_ones(model, x):
    model.decoder = nn.Sequential(model.decoder, nn.Unflatten(1, (1, 1, X)))
    if model.encoder is not None:
        model.encoder = nn.Sequential(nn.Flatten(), model.encoder)
    model.discriminator.joint = mlp([X + Z if model.encoder is not None else X, 8, 1], pieces=2)
    assert_textbook(model, x[:, None, None])


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("game", AGAINST)
def test_gradients_where_the_discriminator_is_surer_than_float32_can_say(game, verdict, x):
    """At 200 the generator still gets its own. What is below e^-60 of a pair's full weight is as good as nothing."""
    model = without_batch_norm(game)
    discriminator = model.discriminator
    model.discriminator = Told(discriminator, *(200 * logits for logits in VERDICTS[verdict]))
    expected = by_part(model, textbook(model, x)[1])
    torch.manual_seed(1)
    found = by_part(model, model.gradients(x)[1])
    for part, gradient in found.items():
        allowed = 1e-5 * expected[part].norm() if expected[part].norm() > 1e-20 else 1e-20
        assert (gradient - expected[part]).norm() <= allowed, part

    model.discriminator = Told(discriminator, *(1000 * logits for logits in VERDICTS[verdict]))
    losses, gradients = model.gradients(x)
    assert all(loss.isfinite() for loss in losses.values())
    assert all(gradient.isfinite().all() for own in gradients.values() for gradient in own)


@pytest.mark.parametrize(("batch_norm", "passes"), [(False, 1), (True, 2)])
def test_backward_passes_through_the_discriminator(batch_norm, passes, x):
    model, seen = ali() if batch_norm else without_batch_norm("ali"), []
    model.discriminator.joint[-1].register_full_backward_hook(lambda *_: seen.append(1))
    model.gradients(x)
    assert len(seen) == passes


def halves_that_meet() -> ALI:
    """A game over small pictures whose discriminator sees each half by itself up to batch norm."""
    table = replace(
        PAPER_SVHN,
        of_x=(
            Conv(5, 1, 8, batch_norm=False, dropout=0.2),
            Conv(4, 2, 16, dropout=0.2),
            Conv(13, 1, 16, dropout=0.2),
        ),
        of_z=(Conv(1, 1, 8, batch_norm=False),),
        joint=(Conv(1, 1, 8, batch_norm=False), Conv(1, 1, None, batch_norm=False, activation="linear")),
    )
    encoder = Gaussian(nn.Sequential(nn.Flatten(), mlp([3 * 32 * 32, 2 * Z])))
    decoder = Deterministic(nn.Sequential(mlp([Z, 3 * 32 * 32]), nn.Unflatten(1, (3, 32, 32)), nn.Sigmoid()))
    return ALI(encoder, decoder, table.build_discriminator((3, 32, 32), Z), Z)


def test_halves_apart_have_the_gradients_of_halves_together(monkeypatch):
    """But for dropout, whose coins are drawn layer by layer and half by half, so there are none here."""
    model, x, found = halves_that_meet(), torch.rand(N, 3, 32, 32), []
    twin = copy.deepcopy(model)
    monkeypatch.setattr(
        twin, "logits", lambda *pairs: twin.discriminator(*map(torch.cat, zip(*pairs, strict=True))).chunk(2)
    )
    for game in (model, twin):
        for layer in game.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        torch.manual_seed(1)
        found.append((*game.gradients(x), game.state_dict()))
    (losses, gradients, state), (expected_losses, expected, expected_state) = found
    torch.testing.assert_close((losses, state), (expected_losses, expected_state))
    for part, gradient in by_part(model, gradients).items():
        other = by_part(twin, expected)[part]
        assert other.norm() > 0 and (gradient - other).norm() <= 1e-5 * other.norm(), part


def test_the_generators_pass_leaves_alone_what_it_does_not_need():
    """Below batch norm it goes through p's half only: of q's pairs, x is given."""
    model, seen = halves_that_meet(), []
    first = next(layer for layer in model.discriminator.towers[0] if isinstance(layer, nn.Conv2d))

    def listen(_, x, y):
        half = len(seen)
        seen.append("forward")
        y.register_hook(lambda _: seen.append(half))

    first.register_forward_hook(listen)
    model.gradients(torch.rand(N, 3, 32, 32))
    assert seen[:2] == ["forward", "forward"]
    assert sorted(seen[2:]) == [0, 1, 1]  # the discriminator's pass through both, the generator's through p's


# The gradient penalty.


@pytest.mark.parametrize("game", AGAINST)
def test_penalty_on_a_linear_discriminator(game, x):
    """Its slope is its weights everywhere, whichever way z_hat hangs on x."""
    model = without_batch_norm(game)
    model.discriminator.joint = nn.Sequential(nn.Linear(X if game == "gan" else X + Z, 1))
    losses = []
    for model.r1 in (0.0, 0.7):
        torch.manual_seed(1)
        losses.append(model.losses(x))
    expected = 0.7 / 2 * model.discriminator.joint[0].weight.square().sum()
    torch.testing.assert_close(losses[1]["discriminator"] - losses[0]["discriminator"], expected, atol=1e-6, rtol=1e-5)
    assert losses[1]["generator"] == losses[0]["generator"]


def test_penalty_by_finite_differences(x):
    """On q's pairs, in x and in z, each by itself."""
    model = ali("noise")
    model.discriminator.joint = nn.Sequential(nn.Linear(X + Z, 8), nn.Tanh(), nn.Linear(8, 1))
    losses = []
    for model.r1 in (0.0, 0.7):
        torch.manual_seed(1)
        losses.append(model.losses(x)["discriminator"].item())

    torch.manual_seed(1)
    q = torch.cat([x, model.encoder(x)], 1).double()
    joint = model.discriminator.joint.double()
    steps = 1e-5 * torch.eye(X + Z, dtype=torch.double)
    slopes = [(joint(q + step) - joint(q - step)) / 2e-5 for step in steps]
    expected = 0.7 / 2 * sum(slope.square().mean().item() for slope in slopes)
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("game", AGAINST)
def test_penalty_is_the_discriminators_alone(game, x):
    model, gradients = without_batch_norm(game), []
    for model.r1 in (0.0, 0.7):
        torch.manual_seed(1)
        gradients.append(model.gradients(x)[1])
    assert all(map(torch.equal, gradients[0]["generator"], gradients[1]["generator"]))
    assert not all(map(torch.equal, gradients[0]["discriminator"], gradients[1]["discriminator"]))


@pytest.mark.parametrize("ask", [lambda model, x: model.losses(x), lambda model, x: model.gradients(x)])
@pytest.mark.parametrize("game", ["gan", "ali"])
def test_the_batch_is_left_as_it_was(game, ask, x):
    model, before = without_batch_norm(game), x.clone()
    model.r1 = 0.7
    ask(model, x)
    assert torch.equal(x, before) and not x.requires_grad and x.grad is None


# What is frozen stays as it was.


@every("post-hoc", "inverse")
def test_frozen_decoder_does_not_change_in_training(model, x):
    decoder, encoder = snapshot(model.decoder), snapshot(model.encoder)
    Trainer(model, Dataset("points", torch.randn(50, X)), batch_size=N, lr=0.1).run(steps=5)
    assert same(decoder, model.decoder)
    assert not same(encoder, model.encoder)


@pytest.mark.parametrize(
    "build",
    [
        lambda start: post_hoc_inference(start, ENCODERS["gaussian"](), discriminator(X + Z)),
        lambda start: inverse_mapping(start, ENCODERS["gaussian"]()),
    ],
)
def test_the_gan_itself_is_left_alone(build):
    start = gan()
    before = snapshot(start)
    model = build(start)
    Trainer(model, Dataset("points", torch.randn(50, X)), batch_size=N, lr=0.1).run(steps=3)
    assert same(before, start)
    assert all(parameter.requires_grad for parameter in start.parameters())
    assert all(module.training for module in start.modules())


# Questions.

QUESTIONS = {
    "sample": lambda model, x: model.sample(4),
    "encode": lambda model, x: model.encode(x),
    "encode-mean": lambda model, x: model.encode(x, sample=False),
    "decode": lambda model, x: model.decode(torch.randn(4, Z)),
    "reconstruct": lambda model, x: model.reconstruct(x),
    "interpolate": lambda model, x: model.interpolate(x[:4], x[4:8], steps=5),
}
SHAPES = {
    "sample": (4, X),
    "encode": (N, Z),
    "encode-mean": (N, Z),
    "decode": (4, X),
    "reconstruct": (N, X),
    "interpolate": (4, 5, X),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("question", QUESTIONS)
@every(*WITH_ENCODER)
def test_questions_leave_no_trace(model, question, training, x):
    sum(model.losses(x).values()).backward()
    model.train(training)
    modes = [module.training for module in model.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    before = snapshot(model)
    answer = QUESTIONS[question](model, x)
    assert answer.shape == SHAPES[question] and not answer.requires_grad
    assert same(before, model)
    assert [module.training for module in model.modules()] == modes
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) if gradient is None else torch.equal(parameter.grad, gradient)


@every(*WITH_ENCODER)
def test_answers_do_not_depend_on_the_batch(model, x):
    """Batch norm by its running statistics: an example alone gets the answer it gets in company."""
    torch.testing.assert_close(model.encode(x, sample=False)[:1], model.encode(x[:1], sample=False))


def test_mode_is_put_back_after_an_error():
    model = ali()
    with pytest.raises(RuntimeError):
        model.encode(torch.randn(4, X + 1))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "ask", [lambda m, x: m.encode(x), lambda m, x: m.reconstruct(x), lambda m, x: m.interpolate(x, x)]
)
def test_gan_cannot_encode(ask, x):
    with pytest.raises(AlikitError, match=r"a GAN cannot encode.*inverse_mapping or post_hoc_inference") as raised:
        ask(gan(), x)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("n", [0, -1])
def test_no_samples_refused(n):
    with pytest.raises(AlikitError, match="at least 1"):
        gan().sample(n)


def test_samples_of_a_gaussian_decoder_are_draws():
    model = ali(decoder="gaussian")
    z = torch.randn(4, Z)
    assert not torch.equal(model.decode(z, sample=True), model.decode(z, sample=True))
    assert torch.equal(model.decode(z), model.decode(z))
    model.prior = lambda n: z
    assert not torch.equal(model.sample(4), model.sample(4))


def test_reconstruction_is_decoded_code(x):
    model = ali()
    z_hat = model.encode(x, sample=False)
    assert torch.equal(model.reconstruct(x, sample=False), model.decode(z_hat))
    assert not torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_prior_is_standard_normal():
    z = gan().prior(100_000)
    torch.testing.assert_close(z.mean(0), torch.zeros(Z), atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), torch.eye(Z), atol=0.02, rtol=0)


@pytest.mark.parametrize("spherical", [False, True])
def test_interpolation_starts_and_ends_at_the_decoded_ends(spherical, x):
    model = ali()
    path = model.interpolate(x[:5], x[5:], steps=7, spherical=spherical)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:5], sample=False))
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[5:], sample=False))


# Paths between codes.


def test_linear_path():
    a, b = torch.randn(2, 4, Z)
    path = mix(a, b, steps=5)
    torch.testing.assert_close(path, torch.stack([a, 0.75 * a + 0.25 * b, (a + b) / 2, 0.25 * a + 0.75 * b, b], 1))


def test_spherical_path_by_hand():
    path = mix(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), steps=4, spherical=True)
    angles = torch.tensor([0, 30, 60, 90]).deg2rad()
    torch.testing.assert_close(path[0], torch.stack([angles.cos(), angles.sin()], 1))


@pytest.mark.parametrize("longer", [1.0, 3.0])
def test_spherical_path_turns_at_a_steady_pace(longer):
    a, b = torch.nn.functional.normalize(torch.randn(2, 50, 8), dim=2)
    path = mix(a, longer * b, steps=9, spherical=True)
    way = torch.nn.functional.normalize(path, dim=2)
    turns = (way[:, 1:] * way[:, :-1]).sum(2).acos()
    torch.testing.assert_close(turns, turns.mean(1, keepdim=True).expand_as(turns), atol=1e-3, rtol=0)
    torch.testing.assert_close(path.norm(dim=2), torch.linspace(1, longer, 9).expand(50, 9))


@pytest.mark.parametrize("times", [1.0, 2.5, -1.0, -2.5, 0.0])
def test_spherical_path_between_codes_on_one_line_is_straight(times):
    a = torch.randn(6, 5)
    torch.testing.assert_close(mix(a, times * a, 5, spherical=True)[:, [0, -1]], torch.stack([a, times * a], 1))
    if times:
        torch.testing.assert_close(mix(a, times * a, 5, spherical=True), mix(a, times * a, 5), atol=1e-3, rtol=0)
    assert mix(a, times * a, 5, spherical=True).isfinite().all()


@pytest.mark.parametrize("degrees", [0.3, 1.0, 179.0, 179.7])
def test_spherical_path_is_smooth_near_a_line(degrees):
    turn = torch.tensor(degrees).deg2rad()
    a, b = (
        torch.tensor([[0.6, 0.8]]),
        torch.tensor([[0.6, 0.8]]) @ torch.tensor([[turn.cos(), turn.sin()], [-turn.sin(), turn.cos()]]),
    )
    lengths = mix(a, b, 9, spherical=True).norm(dim=2)
    assert lengths.max() < 1.01
    if degrees < 179.5:
        assert lengths.min() > 0.99


def test_a_path_has_two_ends():
    with pytest.raises(AlikitError, match="2 ends"):
        mix(torch.zeros(1, Z), torch.zeros(1, Z), steps=1)
