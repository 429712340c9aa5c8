"""The loop: both players step from the same point, every example once an epoch, and a stopped run goes on unchanged."""

import copy
import io
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from alikit import parallel
from alikit.convolutions import Quick
from alikit.data import Dataset
from alikit.errors import AlikitError, Diverged
from alikit.models import ALI, GAN, VAE, Game, post_hoc_inference
from alikit.networks import Deterministic, Discriminator, Gaussian, mlp
from alikit.recipes import RECIPES
from alikit.training import Progress, Trainer, epoch_order, has_bf16

Z = 2


def ali(batch_norm=True, dropout=0.2) -> ALI:
    """With everything in it that a resumed run could lose: noise, dropout, running statistics."""
    torch.manual_seed(0)
    encoder = Gaussian(mlp([2, 16, 2 * Z], batch_norm=batch_norm))
    decoder = Deterministic(mlp([Z, 16, 2], batch_norm=batch_norm))
    towers = [nn.Identity(), nn.Identity()]
    return ALI(encoder, decoder, Discriminator(towers, mlp([2 + Z, 16, 1], dropout=dropout)), Z)


class Recorder(Game):
    """Plays nothing, remembers its batches; `at` is called on each."""

    def __init__(self, at=lambda step: None):
        super().__init__(nn.Linear(1, 1), z_dim=1)
        self.batches, self.at = [], at

    def players(self):
        return {"decoder": list(self.parameters())}

    def losses(self, x):
        self.batches.append(x)
        self.at(len(self.batches))
        return {"decoder": sum(p.square().sum() for p in self.parameters()) + x.mean() + 0 * torch.rand(())}


@pytest.fixture
def points() -> Dataset:
    return Dataset("points", torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + 1)


def count(n: int) -> Dataset:
    return Dataset("count", torch.arange(n)[:, None].float())


def equal(a, b) -> bool:
    """Whether two nested states hold the same values, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


# One step.


@pytest.mark.parametrize("r1", [0.0, 0.5])
def test_both_players_step_from_the_same_point(points, r1):
    """Against two Adams by hand, each with gradients from a pass of its own at the old parameters."""
    model = ali()
    model.r1 = r1
    twin = copy.deepcopy(model)
    trainer = Trainer(model, points, batch_size=10, lr=0.01, betas=(0.5, 0.999), seed=3)
    adams = {
        "discriminator": torch.optim.Adam(twin.discriminator.parameters(), lr=0.01, betas=(0.5, 0.999)),
        "generator": torch.optim.Adam([*twin.encoder.parameters(), *twin.decoder.parameters()], 0.01, (0.5, 0.999)),
    }
    order = epoch_order(50, 0, 3)
    for step in range(3):
        torch.manual_seed(step)
        losses = trainer.one_step()
        gradients = {}
        for player, adam in adams.items():
            torch.manual_seed(step)
            loss = twin.losses(points.x[order[10 * step : 10 * step + 10]])[player]
            twin.zero_grad()
            loss.backward()
            gradients[player] = [p.grad.clone() for p in adam.param_groups[0]["params"]]
            torch.testing.assert_close(losses[player], loss.detach())
        for player, adam in adams.items():
            for p, gradient in zip(adam.param_groups[0]["params"], gradients[player], strict=True):
                p.grad = gradient
            adam.step()
        for ours, by_hand in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(ours, by_hand, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_a_discriminator_that_is_sure_does_not_break_the_run(points, size):
    """Logits of hundreds, where e^logit is no number, right or wrong."""
    model = ali()
    torch.nn.init.constant_(model.discriminator.joint[-1].weight, size)
    x = points.x[:10]
    assert model.discriminator(x, model.encode(x)).abs().max() > 500
    Trainer(model, points, batch_size=10, lr=0.01).run(steps=20)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_gradient_that_lies_otherwise_in_memory_is_taken_as_it_should(points):
    # Fused Adam goes through memory and would take the gradient's first number for another weight's.
    class Turned(VAE):
        def gradients(self, x, y=None, players=None):
            losses, found = super().gradients(x)
            return losses, {player: tuple(self.turned(g) for g in own) for player, own in found.items()}

        def turned(self, gradient):
            return gradient.t().contiguous().t() if gradient.ndim == 2 else gradient

    torch.manual_seed(0)
    plain = VAE(Gaussian(mlp([2, 16, 2 * Z])), Deterministic(mlp([Z, 16, 2])), Z)
    turned = Turned(copy.deepcopy(plain.encoder), copy.deepcopy(plain.decoder), Z)
    for model in (plain, turned):
        torch.manual_seed(1)
        Trainer(model, points, batch_size=10, lr=0.01).run(3)
    assert equal(plain.state_dict(), turned.state_dict())


def test_training_leaves_the_data_alone(points):
    model, before = ali(), points.x.clone()
    model.r1 = 0.5
    Trainer(model, points, batch_size=10).run(steps=3)
    assert torch.equal(points.x, before) and not points.x.requires_grad


def test_losses_that_are_handed_back_hold_no_graph(points):
    losses = Trainer(ali(), points, batch_size=10).one_step()
    assert not any(loss.requires_grad for loss in losses.values())


# Learning.


def test_vae_learns(points):
    torch.manual_seed(0)
    vae = VAE(Gaussian(mlp([2, 16, 2 * Z])), Deterministic(mlp([Z, 16, 2])), Z)
    first, *_, last = Trainer(vae, points, batch_size=25, lr=0.01).run(steps=300, every=50)
    assert last.losses["autoencoder"] < first.losses["autoencoder"] - 1
    assert vae.log_scale.exp().item() == pytest.approx(0.3, abs=0.1)  # the spread of what is left


def test_ali_finds_the_data(points):
    model = ali(dropout=0)
    before = (model.sample(500).mean(0) - points.x.mean(0)).norm()
    Trainer(model, points, batch_size=50, lr=0.005).run(steps=300)
    assert (model.sample(500).mean(0) - points.x.mean(0)).norm() < before / 3


def test_decay_falls_in_the_second_half(points):
    trainer = Trainer(ali(), points, batch_size=10, lr=0.01, decay=True)
    rates, one_step = [], trainer.one_step

    def watched_step():
        rates.append({group["lr"] for group in trainer.optimiser.param_groups})
        return one_step()

    trainer.one_step = watched_step
    trainer.run(steps=10)
    (falling,) = zip(*rates, strict=True)
    assert falling == pytest.approx([0.01] * 6 + [0.008, 0.006, 0.004, 0.002])


# Averaged weights.


def test_averages_by_hand(points):
    """The weights after the first step, and from then on 0.9 of what was and 0.1 of what is; batch norm's too."""
    trainer = Trainer(ali(), points, batch_size=10, lr=0.01, averaging=0.9)
    expected: dict[str, torch.Tensor] = {}
    for step in range(6):
        trainer.one_step()
        for name, tensor in trainer.model.state_dict().items():
            if tensor.is_floating_point():
                now = tensor.double()
                expected[name] = 0.9 * expected[name] + 0.1 * now if step else now
    found = trainer.result.state_dict()
    assert found.keys() == trainer.model.state_dict().keys() and any("running_mean" in name for name in expected)
    for name, average in expected.items():
        torch.testing.assert_close(found[name].double(), average, atol=1e-6, rtol=1e-5)
        assert not torch.equal(found[name], trainer.model.state_dict()[name])


def test_without_averaging_the_result_is_the_model(points):
    trainer = Trainer(ali(), points, batch_size=10)
    assert trainer.result is trainer.model and trainer.state()["average"] is None


def test_averaging_does_not_change_training(points):
    finals = []
    for averaging in (0.0, 0.9):
        trainer = Trainer(ali(), points, batch_size=10, averaging=averaging)
        torch.manual_seed(1)
        trainer.run(steps=6)
        finals.append(trainer.state())
    assert equal(finals[0]["model"], finals[1]["model"]) and equal(finals[0]["random"], finals[1]["random"])


# Precise statistics of batch norm.


@pytest.fixture
def plenty() -> Dataset:
    return Dataset("points", torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + 1)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_precise_statistics_by_hand(plenty, averaging):
    """Those of the first layer: the encoder's over all the data, the decoder's over as many codes."""
    trainer = Trainer(ali(), plenty, batch_size=10, lr=0.01, averaging=averaging, precise_bn=True)
    trainer.run(steps=20)
    plain = trainer._average.module if averaging else trainer.model
    for part, inputs, within in (("encoder", plenty.x, 1e-4), ("decoder", torch.randn(100_000, Z), 0.15)):
        linear, found = getattr(plain, part).net[0], getattr(trainer.result, part).net[1]
        features = linear(inputs).detach()
        torch.testing.assert_close(found.running_mean, features.mean(0), atol=within, rtol=within)
        torch.testing.assert_close(found.running_var, features.var(0), atol=within, rtol=within)
        assert not torch.allclose(getattr(plain, part).net[1].running_var, features.var(0), rtol=0.15)


def test_precise_statistics_take_out_the_shrinking(plenty):
    """A batch of 10 that has variance 1 has 10/9 without bias, which the next layer's running statistics take in.

    So each layer but the first divides by about the root of that too much; the result draws as training on all data.
    """
    model = ali()
    model.decoder = Deterministic(mlp([Z, 64, 64, 64, 64, 2], batch_norm=True))
    trainer = Trainer(model, plenty, batch_size=10, precise_bn=True)
    z, shrunken = torch.randn(3000, Z), copy.deepcopy(model)
    update_bn(z.split(10), shrunken.decoder)
    whole = copy.deepcopy(model).train().decoder(z).std(0)
    torch.testing.assert_close(trainer.result.decode(z).std(0), whole, rtol=0.04, atol=0)
    shrink = shrunken.decode(z).std(0).mean() / whole.mean()
    assert 0.9**1.5 - 0.02 < shrink < 0.94


def test_precise_statistics_change_neither_training_nor_weights(plenty):
    finals = []
    for precise_bn in (False, True):
        trainer = Trainer(ali(), plenty, batch_size=10, averaging=0.9, precise_bn=precise_bn)
        torch.manual_seed(1)
        trainer.run(steps=6, every=2, watch=lambda _, trainer=trainer: trainer.result)
        finals.append((trainer.state(), dict(trainer.result.named_parameters()), trainer.result.training))
    assert equal(*finals)


def test_precise_statistics_are_the_same_when_asked_again(plenty):
    trainer = Trainer(ali(), plenty, batch_size=10, precise_bn=True, seed=5)
    trainer.run(steps=3)
    again = Trainer(ali(), plenty, batch_size=10, precise_bn=True, seed=5)
    again.resume(copy.deepcopy(trainer.state()))
    before = torch.get_rng_state()
    assert trainer.result is trainer.result and equal(trainer.result.state_dict(), again.result.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    last = trainer.result
    trainer.run(steps=4)
    assert not equal(trainer.result.state_dict(), last.state_dict())


def test_precise_statistics_in_several_batches(plenty, monkeypatch):
    """Of the first 2,000 examples of the first epoch, 500 numbers at once; a GAN has codes alone."""
    monkeypatch.setattr("alikit.training.EXAMPLES", 2000)
    monkeypatch.setattr("alikit.training.AT_ONCE", 500)
    trainer = Trainer(ali(), plenty, batch_size=10, precise_bn=True, seed=6)
    linear, norm = trainer.model.encoder.net[0], trainer.result.encoder.net[1]
    seen = linear(plenty.x[epoch_order(3000, 0, 6)[:2000]]).detach()
    assert norm.num_batches_tracked == trainer.result.decoder.net[1].num_batches_tracked == 8
    torch.testing.assert_close(norm.running_mean, seen.mean(0), atol=1e-5, rtol=1e-5)
    game = GAN(ali().decoder, Discriminator([nn.Identity()], mlp([2, 8, 1])), Z)
    assert Trainer(game, plenty, batch_size=10, precise_bn=True).result.decoder.net[1].num_batches_tracked == 8


def test_precise_statistics_are_for_games_with_a_discriminator(points):
    vae = VAE(Gaussian(mlp([2, 16, 2 * Z])), Deterministic(mlp([Z, 16, 2])), Z)
    with pytest.raises(AlikitError, match="precise_bn is for games with a discriminator"):
        Trainer(vae, points, batch_size=10, precise_bn=True)


def test_precise_statistics_leave_a_frozen_decoder_alone(plenty):
    gan = ali()
    model = post_hoc_inference(gan, copy.deepcopy(gan.encoder), copy.deepcopy(gan.discriminator))
    trainer = Trainer(model, plenty, batch_size=10, precise_bn=True)
    trainer.run(steps=3)
    assert equal(trainer.result.decoder.state_dict(), model.decoder.state_dict())
    assert not equal(trainer.result.encoder.state_dict(), model.encoder.state_dict())


def test_precise_statistics_of_what_has_no_batch_norm_and_of_few_examples(points):
    trainer = Trainer(ali(batch_norm=False), points, batch_size=10, precise_bn=True)
    trainer.run(steps=3)
    assert equal(trainer.result.state_dict(), trainer.model.state_dict())
    assert Trainer(ali(), points, batch_size=10, precise_bn=True).result.encoder.net[1].num_batches_tracked == 1


# The order of examples.


def test_an_epoch_is_a_permutation():
    orders = [epoch_order(100, epoch, seed) for seed in (0, 1) for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(100)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(epoch_order(100, 1, 1), orders[3])


def test_an_epoch_visits_every_example_once():
    model = Recorder()
    Trainer(model, count(12), batch_size=4).run(steps=6)
    first, second = torch.cat(model.batches[:3]), torch.cat(model.batches[3:])
    assert sorted(first.flatten().tolist()) == sorted(second.flatten().tolist()) == list(range(12))
    assert not torch.equal(first, second)


def test_the_odd_rest_of_an_epoch_is_left_out():
    model = Recorder()
    Trainer(model, count(10), batch_size=4).run(steps=4)
    assert [len(batch) for batch in model.batches] == [4] * 4
    for epoch in (model.batches[:2], model.batches[2:]):
        assert len(torch.cat(epoch).unique()) == 8


def test_the_order_does_not_use_the_global_generator():
    batches = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = Recorder()
        Trainer(model, count(12), batch_size=4, seed=5).run(steps=3)
        batches.append(torch.cat(model.batches))
    assert torch.equal(*batches)


@pytest.mark.parametrize("batch_size", [0, 1, 51])
def test_batches_that_do_not_fit_are_refused(points, batch_size):
    with pytest.raises(AlikitError, match=f"a batch of {batch_size} does not fit 50 examples: --batch N, 2 to 50"):
        Trainer(ali(), points, batch_size=batch_size)


# Reports.


def test_reports(points):
    watched = []
    reports = Trainer(ali(), points, batch_size=10).run(steps=25, every=10, watch=watched.append)
    assert [report.step for report in reports] == [10, 20, 25]
    assert watched == reports and all(isinstance(report, Progress) for report in reports)
    assert all(report.images_per_second > 0 for report in reports)


def test_a_report_holds_the_mean_since_the_last(points):
    by_step = Trainer(ali(), points, batch_size=10).run(steps=4, every=1)
    by_two = Trainer(ali(), points, batch_size=10).run(steps=4, every=2)
    for player in ("discriminator", "generator"):
        pairs = [(a.losses[player] + b.losses[player]) / 2 for a, b in zip(by_step[::2], by_step[1::2], strict=True)]
        assert [report.losses[player] for report in by_two] == pytest.approx(pairs)


def test_looking_does_not_change_the_run(points):
    def look(progress):
        torch.manual_seed(9)
        model.sample(7), model.reconstruct(points.x)

    finals = []
    for watch in (None, look):
        model = ali()
        trainer = Trainer(model, points, batch_size=10)
        trainer.run(steps=12, every=3, watch=watch)
        finals.append(trainer.state())
    assert equal(*finals)


def test_numbers_that_are_none_stop_the_run(points):
    watched = []
    trainer = Trainer(ali(), Dataset("broken", points.x / 0), batch_size=10)
    with pytest.raises(Diverged, match="no longer numbers at step 5: try a smaller learning rate"):
        trainer.run(steps=100, every=5, watch=watched.append)
    assert not watched


# Stopping and going on.


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("stop", [7, 10])  # in the middle of an epoch of 5 steps, and at its end
def test_a_resumed_run_is_the_same_to_the_last_bit(points, stop, averaging):
    whole = Trainer(ali(), points, batch_size=10, lr=0.01, averaging=averaging, seed=4)
    torch.manual_seed(1)
    whole.run(steps=13)

    first = Trainer(ali(), points, batch_size=10, lr=0.01, averaging=averaging, seed=4)
    torch.manual_seed(1)
    first.run(steps=stop)
    state = copy.deepcopy(first.state())

    torch.manual_seed(99)
    second = Trainer(ali(), points, batch_size=10, lr=0.01, averaging=averaging, seed=4)
    second.resume(state)
    second.run(steps=13)
    assert second.step == 13 and equal(whole.state(), second.state())
    assert equal(whole.result.state_dict(), second.result.state_dict())


@pytest.mark.parametrize("name", ["cifar10-small", "svhn"])
def test_a_resumed_run_on_pictures_is_the_same_to_the_last_bit(name):
    """Convolutions and their memory order, flips, bfloat16 where there is any, a rate that falls, a ramp; through a
    file, as a checkpoint goes. In the middle of the second epoch."""
    recipe = replace(RECIPES[name], batch_size=4)
    pictures = Dataset("noise", torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8))

    def begin() -> Trainer:
        torch.manual_seed(1)
        return recipe.trainer(recipe.build(pictures.shape, pictures.mean()), pictures, seed=2)

    whole, first = begin(), begin()
    torch.manual_seed(3)
    whole.run(steps=6)
    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        first.run(steps=6, every=4, watch=interrupt)
    state = io.BytesIO()
    torch.save(first.state(), state)
    state.seek(0)
    second = begin()
    second.resume(torch.load(state, weights_only=True))
    assert second.step == 4
    second.run(steps=6)
    assert equal(whole.state(), second.state()) and equal(whole.result.state_dict(), second.result.state_dict())


def interrupt(progress: Progress) -> None:
    raise KeyboardInterrupt


def test_the_seed_decides_the_order(points):
    states = []
    for seed in (0, 1):
        trainer = Trainer(ali(), points, batch_size=10, seed=seed)
        torch.manual_seed(1)
        trainer.run(steps=3)
        states.append(trainer.state()["model"])
    assert not equal(*states)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as it is at a prompt, though the tests may run in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_the_end_of_the_step(number):
    states = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        model = Recorder(at=lambda step, on=interrupted: on and step == 3 and signal.raise_signal(number))
        trainer = Trainer(model, count(12), batch_size=4)
        if interrupted:
            with pytest.raises(KeyboardInterrupt), parallel.stopped_once():
                trainer.run(steps=6)
        else:
            trainer.run(steps=3)
        states.append(trainer.state())
    assert states[1]["step"] == 3 and equal(*states)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_ignored_hides_nothing():
    """Ctrl-C is ignored by a study's worker, and comes in the same step as the SIGTERM by which it is stopped."""

    def both(step):
        return step == 3 and [signal.raise_signal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Trainer(Recorder(at=both), count(12), batch_size=4).run(steps=6)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_training_in_a_thread():
    trainer = Trainer(Recorder(), count(12), batch_size=4)
    thread = threading.Thread(target=trainer.run, args=(5,))
    thread.start()
    thread.join(timeout=30)
    assert trainer.step == 5


# A few examples with their classes.


class Told(Recorder):
    """Remembers what it was told of classes, besides."""

    def __init__(self):
        super().__init__()
        self.told = []

    def losses(self, x, y=None):
        self.told.append(y)
        return super().losses(x)


def named(n: int) -> Dataset:
    """100 to 100 + n - 1; the class of a number is its last digit."""
    return Dataset("named", 100.0 + torch.arange(n)[:, None], torch.arange(n) % 10)


def last(model: Told, number: int) -> torch.Tensor:
    """The last examples of each batch, (steps, number)."""
    return torch.stack([batch[-number:, 0] for batch in model.batches])


def test_labelled_examples_come_last_and_with_their_classes():
    model = Told()
    trainer = Trainer(model, count(12), batch_size=4, labelled=named(20), labelled_batch=5)
    trainer.run(steps=6)
    assert [len(batch) for batch in model.batches] == [9] * 6 and trainer.epoch_steps == 3
    assert torch.equal(torch.stack(model.told), last(model, 5).long() % 10)
    assert last(model, 5).min() >= 100 > torch.cat([batch[:-5] for batch in model.batches]).max()


def test_the_others_come_as_they_would_without():
    alone, model = Recorder(), Told()
    Trainer(alone, count(12), batch_size=4, seed=3).run(steps=6)
    Trainer(model, count(12), batch_size=4, labelled=named(20), labelled_batch=5, seed=3).run(steps=6)
    assert all(torch.equal(batch[:4], one) for batch, one in zip(model.batches, alone.batches, strict=True))


def test_a_pass_over_the_labelled_visits_each_once():
    model = Told()
    Trainer(model, count(100), batch_size=4, labelled=named(6), labelled_batch=2).run(steps=9)
    passes = last(model, 2).view(3, 6)
    assert torch.equal(passes.sort().values, (100.0 + torch.arange(6)).expand(3, 6))
    assert len({tuple(one.tolist()) for one in passes}) == 3


def test_the_odd_rest_of_the_labelled_is_left_out():
    model = Told()
    Trainer(model, count(100), batch_size=4, labelled=named(7), labelled_batch=3).run(steps=4)
    assert all(len(one.unique()) == 6 for one in last(model, 3).view(2, 6))


def test_the_labelled_are_in_an_order_of_their_own():
    """As many of each: in the order of the others, the first example would always meet the first."""
    model = Told()
    Trainer(model, count(12), batch_size=4, labelled=named(12), labelled_batch=4).run(steps=3)
    assert not torch.equal(last(model, 4) - 100, torch.stack([batch[:4, 0] for batch in model.batches]))


def test_the_seed_decides_the_order_of_the_labelled():
    orders = []
    for seed in (0, 0, 1):
        model = Told()
        Trainer(model, count(12), batch_size=4, labelled=named(20), labelled_batch=5, seed=seed).run(steps=4)
        orders.append(last(model, 5))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_all_the_labelled_in_each_batch_where_there_are_few():
    model = Told()
    trainer = Trainer(model, count(12), batch_size=4, labelled=named(3), labelled_batch=50)
    trainer.run(steps=4)
    assert trainer.labelled_batch == 3 and [len(batch) for batch in model.batches] == [7] * 4
    assert torch.equal(last(model, 3).sort().values, torch.tensor([100.0, 101, 102]).expand(4, 3))


@pytest.mark.parametrize("options", [{}, {"labelled": named(20)}, {"labelled_batch": 5}])
def test_without_labels_there_is_nothing_to_tell(options):
    model = Told()
    Trainer(model, count(12), batch_size=4, **options).run(steps=2)
    assert model.told == [None, None] and [len(batch) for batch in model.batches] == [4, 4]


def test_a_game_that_cannot_be_told_says_so(points):
    labelled = replace(points.select(slice(4)), labels=torch.arange(4))
    with pytest.raises(AlikitError, match="is told nothing"):
        Trainer(ali(), points, batch_size=10, labelled=labelled, labelled_batch=2).one_step()


@pytest.mark.parametrize("stop", [2, 3, 5])  # within an epoch of 3 steps, a pass of 2 over the labelled, both
@pytest.mark.parametrize(
    "name", ["digits-semi", "digits-semi-consistent", "digits-feature-matching", "digits-supervised"]
)
def test_a_resumed_run_with_labels_is_the_same_to_the_last_bit(name, stop):
    recipe = replace(RECIPES[name], batch_size=7, labels=8, labelled_batch=4, shifts=True)
    x = torch.randint(0, 256, (21, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = Dataset("noise", x, torch.arange(21) % 2, ("a", "b"))

    def begin() -> Trainer:
        torch.manual_seed(1)
        return recipe.trainer(recipe.build(pictures.shape, classes=2), pictures, seed=2)

    whole, first = begin(), begin()
    torch.manual_seed(3)
    whole.run(steps=8)
    torch.manual_seed(3)
    with pytest.raises(KeyboardInterrupt):
        first.run(steps=8, every=stop, watch=interrupt)
    state = copy.deepcopy(first.state())
    second = begin()
    second.resume(state)
    assert second.step == stop
    second.run(steps=8)
    assert equal(whole.state(), second.state()) and equal(whole.result.state_dict(), second.result.state_dict())


# Pictures.


class Watched(Recorder):
    """Remembers, besides, in which type of numbers a product came out."""

    def losses(self, x):
        self.types = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        return super().losses(x)


@pytest.fixture
def pictures() -> Dataset:
    """Each brighter to the right, so that a mirrored one is told by its first column."""
    ramp = torch.arange(4, dtype=torch.uint8).expand(40, 3, 4, 4) * 10
    return Dataset("pictures", ramp + torch.arange(40, dtype=torch.uint8)[:, None, None, None])


def test_flips_mirror_half_of_the_pictures_whole(pictures):
    torch.manual_seed(0)
    model = Recorder()
    Trainer(model, pictures, batch_size=20, flips=True).run(40)
    x = torch.cat(model.batches)
    mirrored = x[:, 0, 0, 0] > x[:, 0, 0, 3]
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.07)  # 800 draws: 4 standard deviations
    upright = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    assert (upright.diff(dim=3) * 255).round().unique().tolist() == [10]
    seen = (upright[:, 0, 0, 0] * 255).round().sort().values.reshape(40, 20)  # 20 epochs of 40 pictures
    assert torch.equal(seen, torch.arange(40.0)[:, None].expand(40, 20))


def test_without_flips_pictures_come_as_they_are(pictures):
    model = Recorder()
    Trainer(model, pictures, batch_size=20).run(2)
    assert all((x.diff(dim=3) > 0).all() for x in model.batches)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in model.batches)


def test_labelled_pictures_are_mirrored_as_well(pictures):
    torch.manual_seed(0)
    model, labelled = Told(), replace(pictures, labels=torch.arange(40))
    Trainer(model, pictures, batch_size=20, flips=True, labelled=labelled, labelled_batch=10).run(40)
    x, y = torch.cat([batch[-10:] for batch in model.batches]), torch.cat(model.told)
    mirrored = x[:, 0, 0, 0] > x[:, 0, 0, 3]
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)  # 400 draws: 4 standard deviations
    upright = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    assert torch.equal((255 * upright[:, 0, 0, 0]).round().long(), y)


def test_shifts_move_pictures(pictures):
    """By up to one of their four pixels, so that a step of 10 from column to column is gone at one edge, or none."""
    torch.manual_seed(0)
    model = Recorder()
    Trainer(model, pictures, batch_size=20, shifts=True).run(20)
    steps = (torch.cat(model.batches).diff(dim=3) * 255).round()[:, 0, 0]
    seen = {tuple(row) for row in steps.int().tolist()}
    assert seen == {(0, 10, 10), (10, 10, 10), (10, 10, 0)}


def test_points_are_neither_flipped_nor_shifted(points):
    with pytest.raises(AlikitError, match="no left and right"):
        Trainer(Recorder(), points, batch_size=10, flips=True)
    with pytest.raises(AlikitError, match="another point: leave shifts out"):
        Trainer(Recorder(), points, batch_size=10, shifts=True)


@pytest.mark.parametrize(("bf16", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_bf16_is_for_products(bf16, expected):
    model = Watched()
    Trainer(model, count(20), batch_size=10, bf16=bf16).one_step()
    assert model.types == expected and next(model.parameters()).dtype == torch.float32


def test_bf16_trains_nearly_the_same(points):
    """Weights stay float32, and a step goes the same way: bfloat16 knows 2 to 3 digits."""
    moved = []
    for bf16 in (False, True):
        model = ali(batch_norm=False, dropout=0)
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        torch.manual_seed(1)
        losses = Trainer(model, points, batch_size=50, lr=0.01, betas=(0.5, 0.999), bf16=bf16).run(20)[-1].losses
        moved.append((torch.cat([p.detach().flatten() for p in model.parameters()]) - before, losses))
    (exact, losses), (rough, rough_losses) = moved
    assert not torch.equal(exact, rough)
    assert nn.functional.cosine_similarity(exact, rough, dim=0) > 0.99
    for player, loss in losses.items():
        assert rough_losses[player] == pytest.approx(loss, rel=0.01)


def test_data_too_large_for_the_device_stays_where_it_is(points, monkeypatch):
    whole = Trainer(ali(), points, batch_size=10, seed=2)
    monkeypatch.setattr(Dataset, "fits", lambda self, device: False)
    monkeypatch.setattr(Dataset, "to", lambda self, device: pytest.fail("it was moved"))
    apart = Trainer(ali(), points, batch_size=10, seed=2)
    for trainer in (whole, apart):
        torch.manual_seed(3)
        trainer.run(7)
    assert equal(whole.model.state_dict(), apart.model.state_dict())


def test_a_ramp_forgets_the_first_weights(points):
    """By hand: the past weighs (1 + n) / (10 + n) before step n + 1, at most 0.9; the first step is a copy."""
    trainer = Trainer(ali(), points, batch_size=10, lr=0.01, averaging=0.9, ramp=True)
    expected, counts = None, []
    for n in range(100):
        trainer.one_step()
        now = {name: value.double() for name, value in trainer.model.state_dict().items()}
        past = min(0.9, (1 + n) / (10 + n))
        expected = now if n == 0 else {name: past * expected[name] + (1 - past) * now[name] for name in now}
        counts.append(trainer.result.state_dict()["encoder.net.1.num_batches_tracked"].item())
    for name, value in trainer.result.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-6, rtol=1e-4)
    assert counts == list(range(1, 101))


def test_a_weight_that_is_no_number_stops_the_run_before_it_is_reported(points):
    """The losses of the last step came before it, so they do not show what it did."""
    model, reports = ali(), []
    trainer = Trainer(model, points, batch_size=10)

    def spoil(progress):
        reports.append(progress.step)
        if progress.step == 4:
            with torch.no_grad():
                next(model.decoder.parameters())[0] = float("nan")

    with pytest.raises(Diverged, match="at step 6"):
        trainer.run(8, every=2, watch=spoil)
    assert reports == [2, 4]


def test_reports_at_other_steps_besides(points):
    steps = [report.step for report in Trainer(ali(), points, batch_size=10).run(10, every=4, also={5, 6, 40})]
    assert steps == [4, 5, 6, 8, 10]


def test_where_bf16_is_not_to_be_had_nothing_breaks(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not has_bf16("cpu")
    recipe = replace(RECIPES["cifar10-small"], batch_size=2)
    pictures = Dataset("pictures", torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    assert recipe.bf16 and not recipe.trainer(recipe.build((3, 32, 32)), pictures).bf16


class Slow(Recorder):
    """Takes its time in float32, or in bfloat16."""

    def __init__(self, in_bf16: bool):
        super().__init__()
        self.in_bf16 = in_bf16

    def losses(self, x):
        if torch.is_autocast_enabled("cpu") == self.in_bf16:
            time.sleep(0.02)
        return super().losses(x)


@pytest.mark.parametrize("slow_in_bf16", [False, True])
def test_the_precision_that_is_quicker_is_found_out(slow_in_bf16, monkeypatch):
    monkeypatch.setattr("alikit.training.has_bf16", lambda device: True)
    model = Slow(slow_in_bf16)
    torch.manual_seed(0)
    noise = torch.get_rng_state()
    trainer = Trainer(model, count(20), batch_size=10, bf16=None)
    assert trainer.bf16 is not slow_in_bf16
    assert torch.equal(torch.get_rng_state(), noise) and not model.batches, "trying it must not change the run"
    # What was found goes on with the run.
    other = Trainer(Slow(not slow_in_bf16), count(20), batch_size=10, bf16=None)
    assert other.bf16 is slow_in_bf16
    other.resume(trainer.state())
    assert other.bf16 is not slow_in_bf16


def test_a_processor_without_bf16_is_not_asked(monkeypatch):
    monkeypatch.setattr("alikit.training.has_bf16", lambda device: False)
    trainer = Trainer(Slow(False), count(20), batch_size=10, bf16=None)
    assert trainer.bf16 is False


def test_plain_is_the_librarys_layers():
    recipe = replace(RECIPES["svhn"], batch_size=2, plain=True)
    pictures = Dataset("pictures", torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    trainer = recipe.trainer(recipe.build((3, 32, 32)), pictures)
    quick = [layer.quick for layer in trainer.model.modules() if isinstance(layer, Quick)]
    assert len(quick) > 20 and not any(quick) and not trainer.bf16
    with pytest.raises(AlikitError, match="plain is float32"):
        Trainer(recipe.build((3, 32, 32)), pictures, batch_size=2, bf16=True, plain=True)
