"""The loop: all players step from the same point, every example once an epoch, and a stopped run goes on unchanged."""

import copy
import io
import time
from dataclasses import replace
from functools import partial

import games
import pytest
import torch
from games import CLASSES, GAMES, X, Z, assert_same, differ
from pydantic import ValidationError
from torch import nn

from alikit import Config, Progress, Trainer
from alikit.data import Dataset
from alikit.errors import AlikitError, Diverged
from alikit.models import ALI, Game
from alikit.recipes import RECIPES
from alikit.training import epoch_order, has_bf16


def ali(**settings) -> ALI:
    torch.manual_seed(0)
    return games.ali(**settings)


class Recorder(Game):
    """Plays nothing, remembers its batches and y; takes its time in float32 or bfloat16 where it is told to."""

    def __init__(self, slow_in_bf16: bool | None = None):
        super().__init__(nn.Linear(1, 1), z_dim=1)
        self.batches, self.y, self.slow_in_bf16 = [], [], slow_in_bf16

    def players(self):
        return {"decoder": list(self.parameters())}

    def losses(self, x, y=None):
        self.batches.append(x)
        self.y.append(y)
        self.type_of_products = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        if torch.is_autocast_enabled("cpu") == self.slow_in_bf16:
            time.sleep(0.02)
        return {"decoder": sum(p.square().sum() for p in self.parameters()) + x.mean() + 0 * torch.rand(())}


def trainer(model: Game, data: Dataset, seed: int = 0, labelled: Dataset | None = None, **config) -> Trainer:
    """Of ten examples a step, if not said otherwise."""
    return Trainer(model, data, Config(**{"batch_size": 10, "lr": 0.01} | config), seed=seed, labelled=labelled)


def points(n: int = 50) -> Dataset:
    return Dataset("points", torch.randn(n, X, generator=torch.Generator().manual_seed(0)) * 0.3 + 1)


def count(n: int) -> Dataset:
    return Dataset("count", torch.arange(n)[:, None].float())


# Settings.


@pytest.mark.parametrize(
    "wrong",
    [
        *({"batch_size": 1}, {"batch_size": "many"}, {"lr": 0}, {"lr": float("nan")}, {"betas": (0.5, 1.0)}),
        *({"r1": -1}, {"ema": 1}, {"labels": -1}, {"step": 3}, {"lr": True}, {"lr": "0.1"}, {"decay": 1}),
    ],
)
def test_settings_are_checked_also_when_they_are_replaced(wrong):
    for make in (Config, partial(replace, Config()), partial(replace, RECIPES["svhn"])):
        with pytest.raises((ValidationError, TypeError)):
            make(**wrong)


@pytest.mark.parametrize(
    ("model", "n", "config", "message"),
    [
        (ali, 1, {"batch_size": 2}, "a batch of 2 does not fit 1 examples: .*more data"),
        (ali, 50, {"batch_size": 51}, "a batch of 51 does not fit 50 examples: choose a smaller batch_size"),
        (GAMES["vae"], 50, {"precise_bn": True}, "precise_bn is for games with a discriminator"),
        (ali, 50, {"random_flip": True}, "points cannot be mirrored or shifted"),
        (ali, 50, {"r1": 0.1}, "r1 is 0.1 in the config and not in the game"),
        (ali, 50, {"labelled": points(5)}, "needs a labelled_batch of at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(model, n, config, message):
    with pytest.raises(AlikitError, match=message):
        trainer(model(), points(n), **config)


# One step.


def test_all_players_step_from_the_same_point():
    """Against two Adams by hand, each with gradients from a pass of its own at the old parameters."""
    model, data = ali(r1=0.5), points()
    twin, before, ours = copy.deepcopy(model), data.x.clone(), trainer(model, data, seed=3)
    adams = {player: torch.optim.Adam(own, lr=0.01, betas=(0.5, 0.999)) for player, own in twin.players().items()}
    for step in range(3):
        torch.manual_seed(step)
        losses, gradients = ours.one_step(), {}
        for player, own in twin.players().items():
            torch.manual_seed(step)
            loss = twin.losses(data.x[epoch_order(50, 0, 3)[10 * step : 10 * step + 10]])[player]
            gradients[player] = torch.autograd.grad(loss, own)
            torch.testing.assert_close(losses[player], loss.detach())
        for player, own in twin.players().items():
            for p, gradient in zip(own, gradients[player], strict=True):
                p.grad = gradient
            adams[player].step()
        torch.testing.assert_close([*model.parameters()], [*twin.parameters()], atol=1e-6, rtol=1e-4)
    assert torch.equal(data.x, before) and not data.x.requires_grad


def test_gradients_and_moments_in_another_memory_order_are_put_right():
    """Fused Adam walks through memory, and would take the first number of one for another weight's."""
    states = []
    for turned in (False, True):
        model = ali()
        if turned:
            for p in model.parameters():
                p.register_hook(lambda g: g.t().contiguous().t() if g.ndim == 2 else g)
        ours = trainer(model, points())
        torch.manual_seed(1)
        ours.run(3)
        state = copy.deepcopy(ours.state())
        for moments in state["optimiser"]["state"].values() if turned else ():
            moments |= {k: m.t().contiguous().t() for k, m in moments.items() if m.ndim == 2}
        ours.resume(state)
        ours.run(6)
        states.append(ours.state())
    assert_same(*states)


@pytest.mark.parametrize("ramp", [False, True])
def test_averaged_weights_by_hand(ramp):
    """The weights after the first step, and from then on 0.9 of what was and 0.1 of what is; on a ramp the past weighs
    (1 + n) / (10 + n) at most. Of batch norm's statistics too; training does not change."""
    ours, plain = (trainer(ali(), points(), ema=ema, ema_ramp=ramp) for ema in (0.9, 0.0))
    expected = {}
    for n in range(100 if ramp else 6):
        for one in (ours, plain):
            torch.manual_seed(n)
            one.one_step()
        past = min(0.9, (1 + n) / (10 + n)) if ramp else 0.9
        now = {name: value.double() for name, value in ours.model.state_dict().items() if value.is_floating_point()}
        expected = {name: past * expected[name] + (1 - past) * v for name, v in now.items()} if n else now
    found = ours.result.state_dict()
    assert "encoder.net.1.running_mean" in expected
    for name, average in expected.items():
        torch.testing.assert_close(found[name].double(), average, atol=1e-6, rtol=1e-4)
        assert differ(found[name], ours.model.state_dict()[name])
    counted = [key for key, value in found.items() if not value.is_floating_point()]
    assert "encoder.net.1.num_batches_tracked" in counted  # which momentum=None would weigh the next batch by
    assert all(found[key] == ours.model.state_dict()[key] == n + 1 for key in counted)
    assert_same(ours.model.state_dict(), plain.model.state_dict())
    assert plain.result is plain.model and plain.state()["average"] is None


# Precise statistics of batch norm.


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_precise_statistics_by_hand_and_that_nothing_else_changes(ema, monkeypatch):
    """Those of the first layer: the encoder's over the first 2,000 examples of the first epoch, the decoder's over as
    many codes, 500 numbers at once. Neither training nor weights nor the state of the generator change; asked for
    again, and after a resume, they are the same."""
    monkeypatch.setattr("alikit.training.EXAMPLES", 2000)
    monkeypatch.setattr("alikit.training.AT_ONCE", 500)
    data = points(3000)
    runs = [trainer(ali(), data, ema=ema, precise_bn=precise, seed=5) for precise in (False, True)]
    for ours in runs:
        torch.manual_seed(1)
        ours.run(steps=6, every=2, watch=lambda _, ours=ours: ours.result)
    assert_same(runs[0].state(), runs[1].state())
    plain = runs[0].result
    assert_same(dict(ours.result.named_parameters()), dict(plain.named_parameters()))
    seen = data.x[epoch_order(3000, 0, 5)[:2000]]
    for part, inputs, within in (("encoder", seen, 1e-4), ("decoder", torch.randn(100_000, Z), 0.15)):
        linear, found = getattr(plain, part).net[0], getattr(ours.result, part).net[1]
        features = linear(inputs).detach().tensor_split(8)
        mean, var = (sum(values) / 8 for values in zip(*((f.mean(0), f.var(0)) for f in features), strict=True))
        torch.testing.assert_close((found.running_mean, found.running_var), (mean, var), atol=within, rtol=within)
        assert not torch.allclose(getattr(plain, part).net[1].running_var, var, rtol=0.15)
    again = trainer(ali(), data, ema=ema, precise_bn=True, seed=5)
    again.resume(copy.deepcopy(ours.state()))
    before, last = torch.get_rng_state(), ours.result
    assert ours.result is last and last.training
    assert_same(again.result.state_dict(), last.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    ours.run(steps=7)
    assert differ(ours.result.state_dict(), last.state_dict())


def test_precise_statistics_of_other_games():
    """A GAN has codes alone, an encoder with a cycle sees both kinds of pictures, a frozen decoder stays as it is."""
    assert trainer(GAMES["gan"](), points(), precise_bn=True).result.decoder.net[1].num_batches_tracked == 1
    cycled, data = ali(), points()  # whose encoder sees x and x_tilde in one batch
    cycled.cycle_z = 1.0
    ours = trainer(cycled, data, precise_bn=True)
    encoder = ours.result.encoder.net
    x = data.x[epoch_order(len(data), 0, ours.seed)]
    with torch.random.fork_rng():
        torch.manual_seed(ours.seed)
        z = cycled.prior(len(data))
    features = encoder[0](torch.cat([x, ours.result.decode(z)]))
    torch.testing.assert_close(encoder[1].running_mean, features.mean(0))
    torch.testing.assert_close(encoder[1].running_var, features.var(0))
    model = GAMES["post-hoc"]()
    result = trainer(model, points(), precise_bn=True).result
    assert_same(result.decoder.state_dict(), model.decoder.state_dict())
    assert differ(result.encoder.state_dict(), model.encoder.state_dict())


# The order of examples.


def test_an_epoch_visits_every_example_once_but_for_an_odd_rest(monkeypatch):
    """In an order that hangs on seed and epoch alone, not on the global generator, nor on whether the data is too large
    for the device; then it stays where it is."""
    orders = [epoch_order(100, epoch, seed) for seed in (0, 1) for epoch in (0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(100)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    seen = []
    for n in (14, 12, 12):
        model = Recorder()
        torch.manual_seed(len(seen))
        ours = trainer(model, count(n), batch_size=4, seed=5)
        assert ours.epoch_steps == 3
        ours.run(steps=6)
        seen.append(torch.stack(model.batches).view(2, 12))
        if len(seen) == 2:
            monkeypatch.setattr(Dataset, "fits", lambda self, device: False)
            monkeypatch.setattr(Dataset, "to", lambda self, device: pytest.fail("it was moved"))
    assert torch.equal(seen[1], seen[2]) and differ(*seen[1])
    assert torch.equal(seen[1].sort().values, torch.arange(12.0).expand(2, 12))
    assert all(len(epoch.unique()) == 12 for epoch in seen[0])


# Reports.


def test_reports():
    """They hold the mean since the last one; what `watch` draws changes nothing."""
    watched = []

    def watch(progress):
        watched.append(progress)
        torch.manual_seed(9)
        one.model.sample(7)

    one, by_step = (trainer(ali(), points()) for _ in range(2))
    torch.manual_seed(1)
    reports = one.run(25, every=10, watch=watch, also={5, 7, 40})
    torch.manual_seed(1)
    each = by_step.run(25, every=1)
    assert [report.step for report in reports] == [5, 7, 10, 20, 25] and watched == reports
    assert all(isinstance(report, Progress) and report.images_per_second > 0 for report in reports)
    for player, loss in reports[3].losses.items():
        assert loss == pytest.approx(sum(report.losses[player] for report in each[10:20]) / 10)
    assert_same(one.state(), by_step.state())
    with pytest.raises(AlikitError, match="a report every 0 steps"):
        one.run(30, every=0)


def test_a_model_for_other_examples_is_refused():
    model = RECIPES["digits"].build((1, 8, 8))
    with pytest.raises(AlikitError, match=r"for examples of \(1, 8, 8\), the data's are \(3, 4, 4\): build it anew"):
        Trainer(model, Dataset("pictures", torch.zeros(40, 3, 4, 4, dtype=torch.uint8)))


def test_losses_and_weights_that_are_not_finite_stop_the_run_before_it_is_reported():
    """The losses of the last step came before it, so they do not show what it did to the weights."""
    with pytest.raises(Diverged, match="no longer numbers at step 5: try a smaller learning rate"):
        trainer(ali(), points().but(x=points().x / 0)).run(100, every=5, watch=pytest.fail)
    model, reports = ali(), []

    def spoil(progress):
        reports.append(progress.step)
        if progress.step == 4:
            nn.init.constant_(model.decoder.net[0].weight, float("nan"))

    with pytest.raises(Diverged, match="at step 6"):
        trainer(model, points()).run(8, every=2, watch=spoil)
    assert reports == [2, 4]


# Stopping and going on.


def resumable(name: str) -> Trainer:
    """An untrained trainer of a recipe on 20 examples, always from the same weights."""
    recipe, data = RECIPES[name], games.examples(RECIPES[name]).select(slice(20))
    labels = {"labels": CLASSES, "labelled_batch": 4} if recipe.has_labels else {}
    recipe = replace(recipe, batch_size=6, random_shift=len(data.shape) == 3, **labels)
    attributes = data.conditions().shape[1] if recipe.is_conditional else None
    torch.manual_seed(1)
    return recipe.trainer(recipe.build(data.shape, data.mean(), None, CLASSES, attributes), data, seed=2)


@pytest.mark.parametrize(
    "name", ["mixture-ali", "cifar10-small", "digits-conditional", "digits-semi-consistent", "digits-supervised"]
)
def test_a_resumed_run_is_the_same_to_the_last_bit(name, monkeypatch):
    """Stopped within an epoch of 3 steps, at its end, and within a pass of 2 steps over the labelled; through a file,
    as a checkpoint goes. Decay, an average on a ramp, flips and shifts, bfloat16 where there is any, R1."""
    monkeypatch.setattr(Trainer, "_is_quicker_in_bf16", lambda self: has_bf16("cpu"))  # no race between two tries
    whole = resumable(name)
    torch.manual_seed(3)
    whole.run(steps=6)
    for at in (2, 3, 5):
        first, second, file = resumable(name), resumable(name), io.BytesIO()
        torch.manual_seed(3)
        with pytest.raises(KeyboardInterrupt):
            first.run(steps=6, stop=lambda at=at, first=first: first.step == at)
        torch.save(first.state(), file)
        file.seek(0)
        torch.manual_seed(99)
        second.resume(torch.load(file, weights_only=True))
        assert second.step == at
        second.run(steps=6)
        assert_same(second.state(), whole.state())
        assert_same(second.result.state_dict(), whole.result.state_dict())


def test_states_of_other_runs_are_refused():
    ours = trainer(ali(), points())
    ours.run(1)
    state = copy.deepcopy(ours.state())
    short, turned, blown = (copy.deepcopy(state) for _ in range(3))
    del short["optimiser"]["state"][0]
    turned["optimiser"]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    blown["model"]["decoder.net.0.weight"][:] = float("inf")
    averaged = state | {"average": ours.model.state_dict()}
    into = [(state, trainer(GAMES["vae"](), points())), (state, trainer(ali(), points(), ema=0.9))]
    for wrong, other in [*into, *((wrong, ours) for wrong in ({}, averaged, short, turned, blown))]:
        with pytest.raises((ValueError, KeyError, RuntimeError)):
            other.resume(wrong)


# A few examples with their classes.


@pytest.mark.parametrize(("labels", "size", "steps"), [(12, 4, 6), (7, 3, 4), (3, 50, 4)])
def test_labelled_examples_come_last_in_passes_of_their_own(labels, size, steps):
    """With their classes; each once a pass, but for an odd rest; all of them where there are few. The others come as
    they would without."""
    named, runs = Dataset("named", 100.0 + torch.arange(labels)[:, None], torch.arange(labels) % 10), []
    for seed, labelled in ((3, None), (3, named), (4, named)):
        model = Recorder()
        trainer(model, count(12), batch_size=4, seed=seed, labelled=labelled, labelled_batch=size).run(steps)
        runs.append(model)
    alone, model, other = runs
    size = min(size, labels)
    last, first = (torch.stack([batch[part, 0] for batch in model.batches]) for part in (slice(4, None), slice(4)))
    assert last.shape == (steps, size) and torch.equal(torch.stack(model.y), last.long() % 10)
    assert_same(first, torch.stack(alone.batches)[:, :, 0])
    per_pass = labels // size
    for start in range(0, steps - per_pass + 1, per_pass):
        assert len(last[start : start + per_pass].unique()) == per_pass * size
    assert differ(model.batches, other.batches) and differ(last - 100, first[:, :size])
    assert alone.y == [None] * steps


@pytest.mark.parametrize(("setting", "view"), [("random_flip", "mirrored"), ("random_shift", "shifted")])
def test_all_pictures_of_a_batch_are_flipped_or_shifted_also_labelled_ones(setting, view, monkeypatch):
    monkeypatch.setattr(f"alikit.training.{view}", lambda x: x + 1)
    model, pictures = Recorder(), Dataset("pictures", torch.zeros(40, 3, 4, 4, dtype=torch.uint8), torch.arange(40))
    trainer(model, pictures, batch_size=20, labelled=pictures, labelled_batch=10, **{setting: True}).run(2)
    for x in model.batches:
        assert torch.equal(x, torch.ones(30, 3, 4, 4)) and x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("slow_in_bf16", [False, True])
def test_the_precision_that_is_quicker_is_found_out(slow_in_bf16, monkeypatch):
    """By trying, which changes nothing of the run; the choice goes on with a resumed run."""
    monkeypatch.setattr("alikit.training.has_bf16", lambda device: True)
    model, noise = Recorder(slow_in_bf16), torch.get_rng_state()
    ours = trainer(model, count(20), bf16=True)
    assert ours.bf16 is not slow_in_bf16 and torch.equal(torch.get_rng_state(), noise) and not model.batches
    other = trainer(Recorder(not slow_in_bf16), count(20), bf16=True)
    assert other.bf16 is slow_in_bf16
    other.resume(ours.state())
    assert other.bf16 is not slow_in_bf16
    other.one_step()
    assert other.model.type_of_products == (torch.float32 if slow_in_bf16 else torch.bfloat16)
    assert next(other.model.parameters()).dtype == torch.float32
    monkeypatch.undo()
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not has_bf16("cpu") and not trainer(Recorder(), count(20), bf16=True).bf16
