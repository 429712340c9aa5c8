"""Conditional games: where y enters, whose its embeddings are, and that what is asked for comes."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.models import ALI, GAN, Game
from alikit.networks import Conditioned, Deterministic, Discriminator, Embedding, Gaussian, attributes_of, mlp
from alikit.recipes import LAPTOP, PAPER_CELEBA, RECIPES

N, X, Z, A, E = 16, 3, 2, 5, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def conditioned(fan_in: int, fan_out: int) -> Conditioned:
    return Conditioned(mlp([fan_in, 8, 8]), Embedding(A, E), mlp([8 + E, 8, fan_out]))


def ali(r1: float = 0.0) -> ALI:
    discriminator = Discriminator([nn.Identity(), nn.Identity(), Embedding(A, E)], mlp([X + Z + E, 8, 1], pieces=2))
    return ALI(Gaussian(conditioned(X, 2 * Z)), Deterministic(conditioned(Z, X)), discriminator, Z, r1)


def gan() -> GAN:
    discriminator = Discriminator([nn.Identity(), Embedding(A, E)], mlp([X + E, 8, 1], pieces=2))
    return GAN(Deterministic(conditioned(Z, X)), discriminator, Z)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(N, X)


@pytest.fixture
def y() -> torch.Tensor:
    return torch.randint(2, (N, A)).float()


# Where y enters.


def test_a_network_is_told_y_after_its_body_and_before_its_head(x, y):
    net = conditioned(X, 7)
    expected = net.head(torch.cat([net.body(x), y @ net.embedding.weight.T + net.embedding.bias], dim=1))
    assert torch.equal(net(x, y), expected)


def test_who_is_told_is_known():
    assert attributes_of(conditioned(X, Z)) == attributes_of(None, nn.Sequential(conditioned(X, Z))) == A
    assert attributes_of(None, mlp([2, 2])) == 0
    assert ali().attributes == gan().attributes == A


@pytest.mark.parametrize("game", [ali, gan])
def test_both_pairs_have_the_same_y(game, x, y):
    q_pair, p_pair = game().pairs(x, y)
    assert q_pair[0] is x and torch.equal(q_pair[-1], y) and torch.equal(p_pair[-1], y)


def test_the_papers_networks_are_told_where_the_paper_says():
    """Appendix and section 5: 256 numbers of y beside 512 features, beside 256 of z, beside 512 + 1024 of D's."""
    model = RECIPES["celeba-conditional"].build((3, 64, 64), attributes=40)
    encoder, decoder, discriminator = model.encoder.net, model.decoder.net, model.discriminator
    embeddings = [encoder.embedding, decoder.embedding, discriminator.towers[2]]
    assert {(e.in_features, e.out_features) for e in embeddings} == {(40, 256)}
    assert len({id(e.weight) for e in embeddings}) == 3
    assert encoder.body(torch.rand(2, 3, 64, 64)).shape == (2, 512, 1, 1)
    assert encoder.head[1][0].weight.shape == (512, 512 + 256, 1, 1)
    assert decoder.head[1][0].weight.shape == (256 + 256, 512, 4, 4)
    assert discriminator.joint[2].weight.shape == (2048, 512 + 1024 + 256, 1, 1)


def test_without_y_the_networks_are_what_they_were():
    names = set(RECIPES["celeba-small"].build((3, 32, 32)).state_dict())
    told = RECIPES["celeba-conditional-small"].build((3, 32, 32), attributes=40).state_dict()
    assert not any("embedding" in name or "head" in name for name in names)
    assert sum("embedding" in name for name in told) == 4  # weight and bias, twice; D's is a tower


def test_first_weights_of_an_embedding_are_not_the_papers_small_ones():
    model = RECIPES["celeba-conditional"].build((3, 64, 64), attributes=40)
    assert model.decoder.net.embedding.weight.std() > 0.05
    assert model.decoder.net.head[1][0].weight.std().item() == pytest.approx(0.01, rel=0.1)


# Whose embeddings they are.


@pytest.mark.parametrize("game", [ali, gan])
def test_each_embedding_learns_with_its_own_network(game, x, y):
    model = game()
    losses, gradients = model.gradients(x, y)
    players = model.players()
    found = {id(p): g for player, own in players.items() for p, g in zip(own, gradients[player], strict=True)}
    owner = {id(p): player for player, own in players.items() for p in own}
    for name, module in model.named_modules():
        if isinstance(module, Embedding):
            assert owner[id(module.weight)] == ("discriminator" if "discriminator" in name else "generator")
            assert found[id(module.weight)].abs().sum() > 0
    assert losses.keys() == players.keys()


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("r1", [0.0, 0.3])
def test_gradients_are_those_of_two_passes(x, y, r1):
    model = ali(r1)
    x, y, own = x.double(), y.double(), model.players()
    model.told = lambda y, n: (y,)  # which makes it float32 otherwise
    torch.manual_seed(1)
    losses, found = model.gradients(x, y)
    torch.manual_seed(1)
    (v, z_hat, _), p_pair = model.pairs(x, y)
    v = v.clone().requires_grad_()
    d_q, d_p = model.discriminator(v, z_hat, y), model.discriminator(*p_pair)
    slopes = torch.autograd.grad(d_q.sum(), (v, z_hat), create_graph=True)
    penalty = r1 / 2 * sum(s.square().sum() for s in slopes) / N
    wanted = {
        "discriminator": -(logsigmoid(d_q) + logsigmoid(-d_p)).mean() + penalty,
        "generator": -(logsigmoid(-d_q) + logsigmoid(d_p)).mean(),
    }
    for player, loss in wanted.items():
        assert losses[player].item() == pytest.approx(loss.item())
        for ours, other in zip(found[player], torch.autograd.grad(loss, own[player], retain_graph=True), strict=True):
            torch.testing.assert_close(ours, other)


# Questions.


def test_one_y_for_all_is_that_y_for_each(x, y):
    model, z = ali(), torch.randn(N, Z)
    assert torch.equal(model.decode(z, y=y[0]), model.decode(z, y=y[:1].expand(N, -1)))
    assert torch.equal(model.encode(x, False, y[0].bool()), model.encode(x, False, y[:1].expand(N, -1)))


def test_reconstruction_with_other_attributes_is_encoded_with_the_old_and_decoded_with_the_new(x, y):
    model = ali()
    expected = model.decode(model.encode(x, sample=False, y=y), y=1 - y)
    assert torch.equal(model.reconstruct(x, sample=False, y=y, to=1 - y), expected)
    assert not torch.equal(expected, model.reconstruct(x, sample=False, y=y))


def test_a_path_goes_from_one_y_to_the_other(x, y):
    model = ali()
    path = model.interpolate(x[:3], x[3:6], steps=4, y_from=y[:3], y_to=y[3:6])
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:3], sample=False, y=y[:3]))
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[3:6], sample=False, y=y[3:6]))


def test_samples_hear_y(y):
    model = ali()
    drawn = []
    for told in (y, 1 - y):
        torch.manual_seed(1)
        drawn.append(model.sample(N, told))
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (None, "5 numbers for each example"),
        (torch.zeros(N, A + 1), "y is 16 x 6, and this model takes 5 numbers for each of 16 examples: 16 x 5"),
        (torch.zeros(N - 1, A), "y is 15 x 5"),
        (torch.zeros(A - 1), "y is 4, and"),
        (torch.tensor(1.0), "y is a single number"),
        (["Eyeglasses"], "y is a tensor of 0 and 1"),
    ],
)
def test_y_of_the_wrong_length_is_refused(told, message, x):
    for ask in (
        lambda model: model.sample(N, told),
        lambda model: model.encode(x, y=told),
        lambda model: model.losses(x, told),
    ):
        with pytest.raises(AlikitError, match=message) as error:
            ask(ali())
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [2.0, -1.0, float("nan")])
def test_y_beyond_no_and_yes_is_refused(wrong, y):
    y[3, 2] = wrong
    with pytest.raises(AlikitError, match="y goes from 0, which is no, to 1"):
        ali().sample(N, y)


def test_y_goes_by_its_name(x, y):
    with pytest.raises(AlikitError, match="say y="):
        ali().encode(x, y)


def test_a_path_between_two_y_for_all(x, y):
    model = ali()
    whole = model.interpolate(x[:3], x[3:6], steps=4, y_from=y[:1].expand(3, -1), y_to=y[1:2].expand(3, -1))
    assert torch.equal(model.interpolate(x[:3], x[3:6], steps=4, y_from=y[0], y_to=y[1]), whole)


def test_a_model_that_is_told_nothing_says_so(x, y):
    model = GAN(Deterministic(mlp([Z, 8, X])), Discriminator([nn.Identity()], mlp([X, 8, 1])), Z)
    with pytest.raises(AlikitError, match="told nothing beside x"):
        model.sample(N, y)


# Data and training.


def test_conditions_of_attributes_and_of_classes():
    x = torch.zeros(3, 2)
    attributes = torch.tensor([[0, 1], [1, 1], [0, 0]], dtype=torch.uint8)
    assert torch.equal(Dataset("a", x, attributes, ("p", "q")).conditions(slice(1, None)), attributes[1:])
    classes = Dataset("c", x, torch.tensor([2, 0, 2]), ("p", "q", "r"))
    assert classes.conditions().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    with pytest.raises(AlikitError, match="neither attributes nor classes"):
        Dataset("n", x).conditions()


def two_sides(n: int = 4000) -> Dataset:
    """Points on the right where the first attribute is there, above where the second is."""
    y = torch.randint(2, (n, 2), dtype=torch.uint8)
    return Dataset("sides", 2.0 * y - 1 + 0.1 * torch.randn(n, 2), y, ("right", "above"))


def test_what_is_asked_for_comes():
    data = two_sides()
    recipe = replace(RECIPES["mixture-ali"], embedding=8, precise_bn=False, batch_size=200, steps=300, averaging=0.98)
    model = recipe.build(data.shape, attributes=2)
    trainer = recipe.trainer(model, data)
    trainer.run(recipe.steps)
    y = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat_interleave(100, 0)
    torch.manual_seed(2)
    drawn = trainer.result.sample(len(y), y)
    assert ((drawn > 0) == (y > 0)).float().mean() > 0.95


def test_batches_bring_the_y_of_their_own_examples():
    data = two_sides(100)
    recipe = replace(RECIPES["mixture-ali"], embedding=8, precise_bn=False, batch_size=10)
    trainer = recipe.trainer(recipe.build(data.shape, attributes=2), data)
    for _ in range(12):  # into the second epoch
        x, y = trainer._batch()
        assert torch.equal(x > 0, y > 0) and y.dtype == torch.float32
        trainer.step += 1


def test_a_resumed_conditional_run_is_the_same_to_the_last_bit():
    data = two_sides(100)
    recipe = replace(RECIPES["mixture-ali"], embedding=8, precise_bn=False, batch_size=10, decay=False)

    def fresh(steps):
        torch.manual_seed(3)
        trainer = recipe.trainer(recipe.build(data.shape, attributes=2), data)
        trainer.run(steps)
        return trainer

    whole = fresh(15)
    state = copy.deepcopy(fresh(7).state())
    second = fresh(0)
    second.resume(state)
    second.run(15)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_precise_statistics_are_not_for_conditional_games():
    recipe = replace(RECIPES["mixture-ali"], embedding=8)
    with pytest.raises(AlikitError, match="not for conditional games"):
        recipe.trainer(recipe.build((2,), attributes=2), two_sides(1000))


def test_a_conditional_recipe_wants_attributes():
    with pytest.raises(AlikitError, match="wants data whose examples have attributes or classes") as error:
        RECIPES["faces-conditional"].build((3, 32, 32))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("networks", [LAPTOP, PAPER_CELEBA])
def test_parts_without_a_discriminator_are_conditional_too(networks):
    recipe = replace(RECIPES["faces-conditional"], networks=networks)
    shape = (3, networks.size, networks.size)
    built = recipe.build(shape, attributes=A)
    model = Game(built.decoder, built.z_dim, built.encoder)
    assert model.sample(2, torch.ones(A)).shape == (2, *shape)
