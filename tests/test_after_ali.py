"""What came after the paper, against formulas written out by hand: losses, penalties, cycles, unary terms."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from games import A, N, X, Z, ali, discriminator
from torch import nn
from torch.distributions import Normal

from alikit import ALI, RECIPES, AlikitError, Config, Trainer, losses
from alikit.data import Dataset
from alikit.networks import Deterministic, Discriminator, Gaussian, Projection

Q, P = torch.tensor([3.0, -0.5, 0.0]).double(), torch.tensor([1.0, -2.0, 0.0]).double()


def sigmoid(d):
    return 1 / (1 + torch.exp(-d))


@pytest.mark.parametrize(
    ("loss", "of_discriminator", "of_generator", "slopes"),
    [
        (
            "ns",
            (-torch.log(sigmoid(Q)) - torch.log(sigmoid(-P))).mean(),
            (-torch.log(sigmoid(-Q)) - torch.log(sigmoid(P))).mean(),
            (sigmoid(Q) - 1, sigmoid(P), sigmoid(Q), sigmoid(P) - 1),
        ),
        # max(0, 1 - 3), max(0, 1.5), max(0, 1); max(0, 2), max(0, -1), max(0, 1); the others minimise q - p as it is.
        (
            "hinge",
            torch.tensor((0 + 1.5 + 1 + 2 + 0 + 1) / 3),
            torch.tensor((3 - 0.5 + 0 - 1 + 2 - 0) / 3),
            (torch.tensor([0.0, -1, -1]), torch.tensor([1.0, 0, 1]), torch.ones(3), -torch.ones(3)),
        ),
        (
            "least-squares",
            ((1 - Q) ** 2 + (1 + P) ** 2).mean(),
            ((1 + Q) ** 2 + (1 - P) ** 2).mean(),
            (2 * Q - 2, 2 * P + 2, 2 * Q + 2, 2 * P - 2),
        ),
        (
            "relativistic",
            -torch.log(sigmoid(Q - P)).mean(),
            -torch.log(sigmoid(P - Q)).mean(),
            (-sigmoid(P - Q), sigmoid(P - Q), sigmoid(Q - P), -sigmoid(Q - P)),
        ),
    ],
)
def test_adversarial_losses_and_their_slopes(loss, of_discriminator, of_generator, slopes):
    q, p = Q.clone().requires_grad_(), P.clone().requires_grad_()
    found = losses.discriminator_loss(q, p, loss), losses.generator_loss(q, p, loss)
    torch.testing.assert_close(found, (of_discriminator.double(), of_generator.double()))
    gradients = [gradient for value in found for gradient in torch.autograd.grad(value, (q, p))]
    torch.testing.assert_close(gradients, [slope.double() / 3 for slope in slopes])
    alone = losses.gan_generator_loss(p, Q, loss)  # without q's part, or with it as a constant
    torch.testing.assert_close(*torch.autograd.grad(alone, p), slopes[3].double() / 3)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_games_play_by_their_loss(loss):
    """And those that a recipe or a config names are the ones that `losses` has."""
    model, logits = ali(loss=loss), torch.randn(2, N)
    expected = losses.discriminator_loss(*logits, loss), losses.generator_loss(*logits, loss)
    torch.testing.assert_close((*model.objective(*logits).values(),), expected)
    assert replace(RECIPES["digits"], loss=loss).build((1, 8, 8)).loss == loss
    assert replace(RECIPES["digits-gan"], loss=loss).build((1, 8, 8)).loss == loss


class Known(nn.Module):
    """d = w sum(x^2) + v sum(z), whose gradients are 2 w x and v."""

    def __init__(self):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(-1.3))

    def forward(self, x, z):
        return self.w * x.square().sum(1) + self.v * z.sum(1)


@pytest.mark.parametrize(("r1", "r2"), [(0.3, 0.0), (0.0, 0.3), (0.2, 0.5)])
@pytest.mark.parametrize(("on", "by_x", "by_z"), [("xz", 1, 1), ("x", 1, 0), ("z", 0, 1)])
def test_penalties_of_each_side(r1, r2, on, by_x, by_z):
    """gamma / 2 E(4 w^2 |x|^2 + Z v^2), every third step three times; derivatives gamma E(4 w |x|^2) and gamma Z v."""
    model = ali(r1=r1, r2=r2, penalty_on=on, penalty_every=3)
    model.discriminator, x = Known(), torch.randn(N, X)
    own, found = [*model.discriminator.parameters()], {}
    for step in (0, 1, 3):
        model.steps_done = step
        torch.manual_seed(1)
        loss = model.losses(x)["discriminator"]
        found[step] = torch.stack([loss, *torch.autograd.grad(loss, own)])
    torch.manual_seed(1)
    (_, _), (x_tilde, _) = model.pairs(x)
    squares = by_x * (r1 * x.square().sum(1).mean() + r2 * x_tilde.square().sum(1).mean())
    w, v = own
    value = (4 * w**2 * squares + by_z * (r1 + r2) * Z * v**2) / 2
    expected = 3 * torch.stack([value, 4 * w * squares, by_z * (r1 + r2) * Z * v])
    torch.testing.assert_close(found[0] - found[1], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[3], found[0])


def test_penalties_have_no_part_by_way_of_the_encoder():
    """With a cycle on z it reads x_tilde beside x, and batch norm makes z_hat depend on both."""
    model, x, found = ali(r2=0.3, cycle_z=0.5), torch.randn(N, X), []
    model.encoder = Gaussian(nn.Sequential(nn.Linear(X, 2 * Z), nn.BatchNorm1d(2 * Z)))
    model.encoder.net.register_forward_hook(lambda net, inputs, out: out.register_hook(found.append) and None)
    loss = model.losses(x)["generator"]
    assert not found
    loss.backward()
    assert found


def test_the_trainer_counts_the_steps_of_a_penalty():
    class Seen(Known):
        steps = ()

        def forward(self, x, z):
            Seen.steps += (model.steps_done,)
            return super().forward(x, z)

    model = ali(r1=1.0, penalty_every=2)
    model.discriminator = Seen()
    settings = Config(batch_size=5, r1=1.0, penalty_every=2)
    Trainer(model, Dataset("points", torch.randn(20, X)), settings).run(3)
    assert Seen.steps == (0, 1, 2)


def linear_ali(adversarial: bool = False) -> ALI:
    encoder, decoder = Gaussian(nn.Linear(X, 2 * Z)), Deterministic(nn.Linear(Z, X))
    judge = Discriminator([nn.Identity()], nn.Sequential(nn.Linear(2 * X, 4), nn.Tanh(), nn.Linear(4, 1)))
    return ALI(encoder, decoder, discriminator(X, Z), Z, cycle_discriminator=judge if adversarial else None)


@pytest.mark.parametrize("cycle", [{"cycle_x": 2.0}, {"cycle_z": 0.5}, {"cycle_x": 2.0, "cycle_z": 0.5}])
@pytest.mark.parametrize("adversarial", [False, True])
def test_cycles_by_hand(cycle, adversarial):
    model, x = linear_ali(adversarial), torch.randn(N, X)
    model.cycle_z = 1e-30 * ("cycle_z" in cycle)  # which draws in another order
    torch.manual_seed(1)
    plain = model.losses(x)
    for name, weight in cycle.items():
        setattr(model, name, weight)
    torch.manual_seed(1)
    found = model.losses(x)
    torch.manual_seed(1)
    (_, z_hat), (x_tilde, z), *_ = model.pairs(x)
    x_hat, judge = model.decoder(z_hat), model.cycle_discriminator
    mu, log_sigma = model.encoder.net(x_tilde).tensor_split(2, 1)
    half = Normal(0.0, 1.0).log_prob(torch.tensor(0.0))  # the constant that `log_density` leaves out
    of_generator = -cycle.get("cycle_z", 0) * (Normal(mu, log_sigma.exp()).log_prob(z) - half).mean()
    of_discriminator = torch.tensor(0.0)
    if "cycle_x" in cycle and adversarial:
        same, other = (judge(torch.cat([x, v], 1)) for v in (x, x_hat))
        of_generator = of_generator - 2.0 * torch.log(sigmoid(other)).mean()
        of_discriminator = -torch.log(sigmoid(same)).mean() - torch.log(sigmoid(-other)).mean()
    elif "cycle_x" in cycle:
        of_generator = of_generator + 2.0 * (x - x_hat).abs().mean()
    for player, expected in (("generator", of_generator), ("discriminator", of_discriminator)):
        torch.testing.assert_close(found[player] - plain[player], expected, atol=1e-5, rtol=1e-4)
    own = [*model.encoder.parameters(), *model.decoder.parameters()]
    more, less = (torch.autograd.grad(value["generator"], own) for value in (found, plain))
    expected = torch.autograd.grad(of_generator, own, materialize_grads=True)
    torch.testing.assert_close([a - b for a, b in zip(more, less, strict=True)], [*expected], atol=1e-5, rtol=1e-4)
    judged = {id(p) for p in judge.parameters()} if adversarial else set()
    assert judged <= {id(p) for p in model.players()["discriminator"]}
    assert not judged & {id(p) for p in model.players()["generator"]}


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("cycle", [("cycle_x",), ("cycle_z",), ("cycle_x", "cycle_z")])
def test_cycles_that_train_the_encoder_alone(adversarial, cycle):
    """The encoder learns as by ALICE, the decoder as without a cycle."""

    def slopes(weight: float, trains: str) -> list[torch.Tensor]:
        model.cycle_trains = trains
        for name in cycle:
            setattr(model, name, weight)
        torch.manual_seed(1)
        loss = model.losses(x)["generator"]
        return [torch.autograd.grad(loss, [*part.parameters()], retain_graph=True) for part in parts]

    model, x = linear_ali(adversarial), torch.randn(N, X)
    parts = model.encoder, model.decoder
    (of_encoder, of_decoder), alice, without = slopes(2.0, "encoder"), slopes(2.0, "both"), slopes(1e-30, "both")
    torch.testing.assert_close(of_encoder, alice[0])
    torch.testing.assert_close(of_decoder, without[1])
    assert not torch.allclose(alice[1][0], without[1][0], atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_noise_is_on_what_the_encoder_reads_and_on_nothing_else(weight):
    model, x, read = linear_ali(), torch.randn(100_000, X), []
    model.cycle_z, model.input_noise = weight, 0.3
    model.encoder.net.register_forward_pre_hook(lambda net, inputs: read.append(*inputs))
    (shown, _), (x_tilde, _), *_ = model.pairs(x)
    noise = read[0] - (torch.cat([x, x_tilde]) if weight else x)
    assert shown is x and noise.mean().abs() < 0.01 and (noise.std() - 0.3).abs() < 0.01
    torch.testing.assert_close(model.encode(x, sample=False), model.encoder.net(x).tensor_split(2, 1)[0])


def cycle_z(encoder: nn.Module, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    model = ali(cycle_z=1.0)
    return model.cycle_losses((x, z), (x, z), encoder.moments(x))["generator"]


def test_the_cycle_on_z_rests_where_the_encoder_is_the_posterior():
    """x = 2 z + 0.5 eps has p(z|x) = N(2 x / 4.25, 0.25 / 4.25): no slope there, in any parameter, and one elsewhere.
    With the squared error of a drawn code there would be one: it wants no sigma at all."""
    encoder = Gaussian(nn.Linear(1, 2))
    z = torch.randn(200_000, 1)
    x = 2 * z + 0.5 * torch.randn(200_000, 1)
    spread = (0.25 / 4.25) ** 0.5
    with torch.no_grad():
        encoder.net.weight.copy_(torch.tensor([[2 / 4.25], [0.0]]))
        encoder.net.bias.copy_(torch.tensor([0.0, spread]).log().nan_to_num(neginf=0.0))

    def slope(at):
        return torch.cat([g.flatten() for g in torch.autograd.grad(at.mean(), encoder.net.parameters())]).abs().max()

    assert slope(cycle_z(encoder, z, x)) < 0.05
    assert slope((z - encoder(x)).square()) > 0.1
    with torch.no_grad():
        encoder.net.bias += 0.1
    assert slope(cycle_z(encoder, z, x)) > 0.1


def test_a_code_without_a_density_is_as_near_as_the_squared_error_says():
    encoder, x, z = Deterministic(nn.Linear(X, Z)), torch.randn(N, X), torch.randn(N, Z)
    torch.testing.assert_close(cycle_z(encoder, z, x), ((z - encoder.net(x)) ** 2 / 2).mean())


def test_unary_terms_are_judged_beside_the_pair():
    """The sum of s_xz, s_x and s_z by the hinge, up to the factor of a mean (Donahue and Simonyan 2019)."""
    joint, of_x, of_z = nn.Sequential(nn.Linear(X + Z, 4), nn.Tanh(), nn.Linear(4, 1)), nn.Linear(X, 1), nn.Linear(Z, 1)
    model = ali(loss="hinge")
    model.discriminator = Discriminator([nn.Identity(), nn.Identity()], joint, of_x, of_z)
    pairs = model.pairs(torch.randn(N, X))
    found = model.objective(*model.logits(*pairs))
    (q_xz, q_x, q_z), (p_xz, p_x, p_z) = ((joint(torch.cat(pair, 1)), of_x(pair[0]), of_z(pair[1])) for pair in pairs)

    def h(t):
        return (1 - t).clamp(min=0).mean()

    of_discriminator = sum(h(q) + h(-p) for q, p in ((q_xz, p_xz), (q_x, p_x), (q_z, p_z)))
    of_generator = sum(q.mean() - p.mean() for q, p in ((q_xz, p_xz), (q_x, p_x), (q_z, p_z)))
    torch.testing.assert_close((*found.values(),), (of_discriminator / 3, of_generator / 3))
    slopes = [torch.autograd.grad(value, of_z.weight)[0] for value in (found["discriminator"], of_discriminator / 3)]
    torch.testing.assert_close(*slopes)
    assert model.discriminator(*pairs[0]).shape == (N, 3)


def test_unary_terms_of_a_conditional_game_see_y():
    """For each y other weights: (w + V y / sqrt(F)) f + b (Miyato and Koyama 2018)."""
    alone, y = Projection(6, A), torch.eye(A)[torch.arange(N) % A]
    f, (w, b), v = torch.randn(N, 6), alone.sum.parameters(), alone.of_y.weight
    expected = torch.stack([((w[0] + v @ y[i] / 6**0.5) * f[i]).sum() + b[0] for i in range(N)])
    torch.testing.assert_close(alone(torch.cat([f, y], 1))[:, 0], expected)
    towers, joint = [nn.Linear(X, 6), nn.Linear(Z, 6), nn.Identity()], nn.Sequential(nn.Tanh(), nn.Linear(12 + A, 1))
    network, x, z = Discriminator(towers, joint, Projection(6, A), alone), torch.randn(N, X), torch.randn(N, Z)
    s_xz, s_x, s_z = network(x, z, y).T
    torch.testing.assert_close(s_xz, joint(torch.cat([towers[0](x), towers[1](z), y], 1))[:, 0])
    torch.testing.assert_close(s_z, alone(torch.cat([towers[1](z), y], 1))[:, 0])
    torch.testing.assert_close(s_x, network.unary[0](torch.cat([towers[0](x), y], 1))[:, 0])


@pytest.mark.parametrize("recipe", ["digits", "celeba-small", "digits-conditional", "celeba-conditional-small"])
def test_recipes_build_what_came_after(recipe):
    """A step of each, in every architecture; and one line where a game has no use for it."""
    more = {"loss": "relativistic", "r1": 0.1, "r2": 0.1, "unary": True, "cycle_z": 0.5, "cycle_x": 1.0}
    chosen = replace(RECIPES[recipe], adversarial_cycle=True, **more)
    shape = (1, 8, 8) if "digits" in recipe else (3, 32, 32)
    model = chosen.build(shape, attributes=A if chosen.is_conditional else None)
    y = (torch.eye(A)[:4],) if chosen.is_conditional else ()
    found = model.losses(torch.rand(4, *shape), *y)
    gradients = {
        player: torch.autograd.grad(found[player], own, retain_graph=True) for player, own in model.players().items()
    }
    assert all(gradient.isfinite().all() for own in gradients.values() for gradient in own)
    assert model.discriminator(torch.rand(4, *shape), model.prior(4), *y).shape == (4, 3)


@pytest.mark.parametrize(
    ("recipe", "changes", "says"),
    [
        ("digits-gan", {"cycle_x": 1.0}, "GAN has no cycle_x"),
        ("digits-vae", {"loss": "hinge"}, "VAE has no loss"),
        ("digits-feature-matching", {"r1": 0.1}, "FeatureMatchingGAN has no r1"),
        ("digits-feature-matching", {"r2": 0.1}, "FeatureMatchingGAN has no r2"),
        ("digits-gan", {"r1": 0.1, "penalty_on": "x"}, "a penalty on x or on z alone is for games of pairs .x, z."),
        ("digits-feature-matching", {"penalty_on": "x"}, "for games of pairs"),
        ("digits-vae", {"penalty_on": "x"}, "VAE has no penalty_on"),
        ("digits-gan", {"unary": True}, "unary is for games of pairs .x, z. without"),
        ("mixture-ali-noise", {"cycle_z": 0.5}, "an encoder with noise beside x has no density for cycle_z"),
        ("digits-semi", {"unary": True}, "unary is for games of pairs .x, z. without labels"),
        ("digits", {"adversarial_cycle": True}, "adversarial_cycle needs a cycle_x above 0"),
        ("digits", {"cycle_trains": "encoder"}, "cycle_trains=encoder needs .* or cycle_trains=both"),
        ("digits-vae", {"cycle_trains": "encoder"}, "VAE has no cycle_trains"),
        ("digits-semi", {"adversarial_cycle": True, "cycle_x": 1.0}, "and a game with a cycle_discriminator"),
    ],
)
def test_games_without_a_use_for_a_setting_say_so(recipe, changes, says):
    chosen = replace(RECIPES[recipe], **changes)
    with pytest.raises(AlikitError, match=says):
        chosen.build((2,) if chosen.data == "mixture" else (1, 8, 8), classes=10, attributes=10)


def test_a_game_that_says_a_setting_of_its_own_and_its_recipe_agree():
    class Mine(ALI):
        cycle_z = 0.7

    with pytest.raises(AlikitError, match=r"Mine has cycle_z 0\.7 and its recipe 0\.0: name it in the recipe"):
        replace(RECIPES["digits"], game=Mine).build((1, 8, 8))
    assert replace(RECIPES["digits"], game=Mine, cycle_z=0.5).build((1, 8, 8)).cycle_z == 0.5


def test_a_parameter_of_a_game_is_its_own_and_a_method_is_not_replaced():
    class Mine(ALI):
        def __init__(self, encoder, decoder, discriminator, z_dim, r1=0.0):
            super().__init__(encoder, decoder, discriminator, z_dim)
            self.r1 = 2 * r1

        def labels(self):
            return "mine"

    model = replace(RECIPES["digits"], game=Mine, r1=0.5).build((1, 8, 8))
    assert model.r1 == 1.0 and model.labels() == "mine"


def test_the_cycles_discriminator_has_the_games_loss():
    model, x = linear_ali(adversarial=True), torch.randn(N, X)
    model.cycle_x, found = 1.0, {}
    for model.loss in losses.LOSSES:
        torch.manual_seed(1)
        pairs = model.pairs(x)
        found[model.loss] = model.cycle_losses(*pairs)["discriminator"].item()
    assert len(set(found.values())) == len(losses.LOSSES), found


def test_a_cycle_on_z_encodes_both_kinds_of_pictures_in_one_pass():
    """Each alone would be scaled by statistics of its own, and running statistics, by which the encoder works later,
    are half of each: real pictures' codes then had half of the prior's variance."""
    model, x = replace(RECIPES["digits"], cycle_z=1.0).build((1, 8, 8)).train(), torch.rand(N, 1, 8, 8)
    torch.manual_seed(0)
    (_, z_hat), (x_tilde, z), moments = deepcopy(model).pairs(x)
    torch.manual_seed(0)
    again = deepcopy(model)
    torch.testing.assert_close(again.prior(N), z, rtol=0, atol=0)
    mu, log_sigma = again.encoder.moments(torch.cat([x, x_tilde]))
    torch.testing.assert_close(moments, (mu[N:], log_sigma[N:]))
    torch.testing.assert_close(z_hat, mu[:N] + log_sigma[:N].exp() * torch.randn_like(mu[:N]))
    assert not torch.allclose(mu[:N], model.encoder.moments(x)[0], atol=1e-2)


def test_a_cycle_on_x_decodes_by_running_statistics_and_leaves_them():
    model, x, found = replace(RECIPES["digits"], cycle_x=1.0).build((1, 8, 8)).train(), torch.rand(N, 1, 8, 8), []
    for model.cycle_x in (0.0, 1.0):
        torch.manual_seed(0)
        game = deepcopy(model)
        second = game.cycle_losses(*(pairs := game.pairs(x)))
        found.append([*game.buffers()])
    torch.testing.assert_close(*found, rtol=0, atol=0)
    assert all(layer.training for layer in game.modules())
    (x, z_hat), _ = pairs
    torch.testing.assert_close(second["generator"], (x - game.eval().decoder(z_hat)).abs().mean())
