"""A data set: what it hands over, and how it is divided."""

import numpy as np
import pytest
import torch

from alikit.data import Dataset


@pytest.fixture
def pictures() -> Dataset:
    x = torch.randint(0, 256, (23, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Dataset("pictures", x, torch.arange(23), tuple("abc"), {"size": torch.arange(23) * 10})


@pytest.fixture
def points() -> Dataset:
    return Dataset("points", torch.randn(23, 2, generator=torch.Generator().manual_seed(0)))


def test_length_and_shape(pictures, points):
    assert (len(pictures), pictures.shape) == (23, (3, 4, 5))
    assert (len(points), points.shape) == (23, (2,))


def test_pictures_become_floats_between_0_and_1():
    x = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    assert torch.equal(Dataset("one", x).floats(), torch.tensor([[[[0, 0.2, 1]]]]))


def test_points_stay_as_they_are(points):
    assert torch.equal(points.floats(), points.x)


@pytest.mark.parametrize("index", [slice(3, 7), torch.tensor([5, 0, 5])])
def test_floats_of_some(pictures, index):
    assert torch.equal(pictures.floats(index), pictures.x[index].float() / 255)


def test_mean(pictures, points):
    np.testing.assert_allclose(pictures.mean(), pictures.x.numpy().mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(points.mean(), points.x.numpy().mean(0), rtol=1e-5)
    assert pictures.mean().dtype == torch.float32 and pictures.mean().shape == pictures.shape


def test_mean_of_more_than_one_batch():
    x = torch.cat([torch.zeros(1000, 1), torch.full((500, 1), 3.0)])
    assert Dataset("points", x).mean().item() == pytest.approx(1)


def test_batches_hold_everything_in_order(pictures):
    batches = list(pictures.batches(10))
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert torch.equal(torch.cat(batches), pictures.floats())


def test_selection_keeps_what_belongs_together(pictures):
    some = pictures.select(torch.tensor([4, 2]))
    assert torch.equal(some.x, pictures.x[[4, 2]])
    assert some.labels.tolist() == [4, 2] and some.factors["size"].tolist() == [40, 20]
    assert (some.name, some.classes) == (pictures.name, pictures.classes)


def test_selection_without_labels(points):
    assert points.select(slice(3)).labels is None


def test_split_shares_nothing_and_loses_nothing(pictures):
    train, held_out = pictures.split(5)
    assert (len(train), len(held_out)) == (18, 5)
    assert sorted([*train.labels.tolist(), *held_out.labels.tolist()]) == list(range(23))
    assert torch.equal(held_out.x, pictures.x[held_out.labels])


def test_split_is_the_same_every_time_and_leaves_the_global_generator(pictures):
    state = torch.get_rng_state()
    first = pictures.split(5, seed=1)[1].labels
    torch.rand(3)
    assert torch.equal(first, pictures.split(5, seed=1)[1].labels)
    assert not torch.equal(first, pictures.split(5, seed=2)[1].labels)
    torch.set_rng_state(state)
    pictures.split(5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("held_out", [-1, 0, 23, 24])
def test_impossible_splits_are_refused(pictures, held_out):
    with pytest.raises(ValueError, match=f"cannot hold out {held_out} of 23 examples: choose between 1 and 22"):
        pictures.split(held_out)


def test_attributes_are_selected_by_rows(pictures):
    attributes = torch.arange(69, dtype=torch.uint8).view(23, 3) % 2
    some = Dataset("faces", pictures.x, attributes, ("a", "b", "c")).select(torch.tensor([4, 2]))
    assert torch.equal(some.labels, attributes[[4, 2]]) and some.classes == ("a", "b", "c")


@pytest.mark.parametrize(("free", "fits"), [(2 * 23 * 60, True), (2 * 23 * 60 - 1, False)])
def test_fits_where_twice_as_much_is_free(pictures, monkeypatch, free, fits):
    """23 pictures of 3 x 4 x 5 bytes."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**12))
    assert pictures.fits("cuda") is fits and pictures.fits(torch.device("cuda", 0)) is fits
    assert pictures.fits("cpu") is True


def test_to_a_device_moves_the_examples_alone(pictures):
    moved = pictures.to("meta")
    assert moved.x.device.type == "meta" and moved.labels.device.type == "cpu"
    assert pictures.x.device.type == "cpu"


def test_some_are_always_the_same_and_not_the_first():
    data = Dataset("points", torch.arange(1000.0)[:, None], torch.arange(1000))
    some = data.some(50)
    assert torch.equal(some.x, data.some(50).x) and torch.equal(some.x[:, 0].long(), some.labels)
    assert len(some.labels.unique()) == 50 and some.labels.max() > 500
    assert torch.equal(data.some(10).x, some.x[:10])
    assert data.some(1000) is data
