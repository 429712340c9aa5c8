"""Data sets by name; what one hands over, how it is divided, whose labels may be used; y by the names of attributes."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, SVHN, CelebA

from alikit.data import SOURCES, Dataset, GridMixture, digits, faces, load, published
from alikit.data.conditions import COLUMNS, NAMED, columns_of, names_in, paper_grid, switched, usual
from alikit.data.labels import few_labels, for_settings, labels_to_spare
from alikit.data.sources import canonical, is_resized, parted
from alikit.errors import AlikitError

README = (Path(__file__).resolve().parents[2] / "data" / "README.md").read_text(encoding="utf-8")


def test_digits_are_scikit_learns_and_always_held_out_alike():
    data, bunch = digits(), load_digits()
    assert data.x.shape == (1797, 1, 8, 8) and data.x.dtype == torch.uint8
    np.testing.assert_allclose(data.x[:, 0] / 255 * 16, bunch.images, atol=0.5 / 255 * 16 + 1e-6)
    assert data.classes == tuple("0123456789") and data.labels.tolist() == bunch.target.tolist()
    train, held_out = load("digits")
    torch.manual_seed(7)
    assert (len(train), len(held_out)) == (1500, 297) and torch.equal(held_out.x, load("digits")[1].x)
    assert len(torch.cat([train.x, held_out.x]).flatten(1).unique(dim=0)) == 1797  # no two are alike


def test_names_are_described_and_others_are_refused_like_sizes(tmp_path):
    assert [name for name in SOURCES if f"| `{name}` |" not in README] == []
    checksums = [file[1] for file in (*CIFAR10.train_list, *CIFAR10.test_list, *CelebA.file_list)]
    checksums += [published.TINY_MD5, CIFAR10.tgz_md5, *(file[2] for file in SVHN.split_list.values())]
    assert [checksum for checksum in checksums if f"` | `{checksum}` |" not in README] == []
    for name in ("music", "folder", "folder:", "table:", "cifar10:", "stand-in:music", "digits:here", "", r"C:\pics"):
        with pytest.raises(AlikitError, match=r"no data called .*choose mixture, .*folder:PATH, .*torchvision:NAME"):
            load(name)
    with pytest.raises(AlikitError, match="no data called 'mnist': say torchvision:MNIST"):
        load("mnist")
    for name, way in (("CelebA", "say celeba"), ("Kinetics", "choose MNIST, ")):
        with pytest.raises(AlikitError, match=f"torchvision has no set of labelled pictures '{name}' here: {way}"):
            load(f"torchvision:{name}")
    for name in ("digits", "mixture", "house-numbers", "cifar10", "svhn-extra", "stand-in:svhn"):
        with pytest.raises(AlikitError, match="--size is for folders"):
            load(name, size=32 if name in ("digits", "mixture") else 64)


def test_a_name_without_a_folder_means_one(cifar, tmp_path, monkeypatch):
    monkeypatch.delenv("ALIKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert (canonical("svhn"), canonical("imagenet")) == ("svhn:data", "imagenet:data/imagenet")
    assert (canonical("svhn:else"), canonical("folder:a/")) == ("svhn:else", "folder:a")
    assert (canonical("torchvision:mnist"), canonical("torchvision:emnist:a/b")) == (
        "torchvision:MNIST:data",
        "torchvision:EMNIST-letters:a/b",
    )
    assert parted("torchvision:MNIST:data") == ("torchvision:MNIST", "data")
    assert parted("svhn:data") == ("svhn", "data") and parted("stand-in:svhn") == ("stand-in:svhn", "")
    assert len(load("cifar10")[0]) == 90  # the files lie in data/
    cifar.rename("elsewhere")
    with pytest.raises(AlikitError, match="put it in data, or use --download"):
        load("cifar10")
    monkeypatch.setenv("ALIKIT_DATA", "elsewhere")
    assert canonical("svhn") == "svhn:elsewhere" and len(load("cifar10")[0]) == 90
    with pytest.raises(AlikitError, match="no class folders in elsewhere/imagenet/train"):
        load("imagenet")


def test_a_path_alone_says_what_lies_there(paint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("pics/cat/a.png", "digits/a.png", "beside/a.png", "table/images/a.png"):
        paint(place)
    np.save("x.npy", np.zeros((4, 8, 8), np.uint8))
    np.save("beside/x.npy", np.zeros((4, 8, 8), np.uint8))
    Path("table/attributes.csv").write_text("image,Smiling\na.png,1\n")
    Path("kept").mkdir()
    Path("kept/train_32x32.mat").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, means in (
        ("pics", "folder:pics"),
        ("pics/", "folder:pics"),
        (Path("pics"), "folder:pics"),
        ("~/pics", "folder:~/pics"),
        (tmp_path.as_uri() + "/pics", f"folder:{tmp_path}/pics"),
        (f"folder:{tmp_path.as_uri()}/pics", f"folder:{tmp_path}/pics"),
        ("table", "table:table"),
        ("x.npy", "file:x.npy"),
        ("digits", "digits"),  # a known name
        ("kept", "svhn:kept"),  # what is published lies there
        (Path("digits"), "folder:digits"),
    ):
        assert canonical(given) == means
        assert canonical(means) == means and is_resized(means) == (means not in ("digits", "file:x.npy", "svhn:kept"))
    assert len(load("digits")[0]) == 1500
    for given, message in (
        ("beside", "beside has pictures and files of arrays: say folder:beside or file:beside"),
        ("pics/cat/a.png", "is one picture: name the folder"),
        ("https://a.org/x.npy", "no data is read from the network .*: fetch it first"),
        (Path("none"), "no data called 'none'"),
        ("file:pics", "pics has no files of arrays: for the pictures in a folder, say folder:pics"),
    ):
        with pytest.raises(AlikitError, match=message):
            load(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": "a,b"}, "splits are for folders and tables; digits has the parts it has"),
        ({"white": 4095}, "white is for your own pictures and arrays; digits has"),
        ({"size": 8.0}, "size is 8.0: give a whole number"),
        ({"white": "255"}, "white is '255': give a number"),
        ({"splits": ["a", "b"]}, r'splits is \[.*give text, as "TRAIN,HELD_OUT"'),
    ],
)
def test_options_that_mean_nothing_are_not_passed_over(options, message):
    with pytest.raises(AlikitError, match=message):
        load("digits", **options)


# The mixture.


@pytest.mark.parametrize("std", [0.05, 1.0])
def test_density_and_responsibilities(std):
    grid = GridMixture(std=std)
    x = grid.sample(200, seed=5).x
    of_each = np.stack([multivariate_normal(mean, std**2).pdf(x.double()) for mean in grid.means], axis=1)
    np.testing.assert_allclose(grid.log_density(x), np.log(of_each.mean(1)), atol=1e-3)
    np.testing.assert_allclose(grid.responsibilities(x), of_each / of_each.sum(1, keepdims=True), atol=1e-5)


def test_samples_have_the_moments_of_the_mixture_and_come_from_the_seed_alone():
    """Means have variance 8 along each axis; each mode adds 0.05^2."""
    state, grid = torch.get_rng_state(), GridMixture()
    data, held_out = load("mixture")
    assert torch.equal(state, torch.get_rng_state()) and (len(data), len(held_out)) == (100_000, 10_000)
    for part, seed in ((data, 0), (held_out, 1)):
        again = grid.sample(len(part), seed)
        assert torch.equal(part.x, again.x) and torch.equal(part.labels, again.labels)
    assert not torch.equal(data.x[:10_000], held_out.x)
    assert (data.x.dtype, data.labels.dtype, len(data.classes)) == (torch.float32, torch.int64, 25)
    torch.testing.assert_close(data.x.mean(0), torch.zeros(2), atol=0.04, rtol=0)
    torch.testing.assert_close(data.x.T.cov(), 8.0025 * torch.eye(2), atol=0.12, rtol=0)
    assert (data.labels.bincount(minlength=25) - 4000).abs().max() < 250  # 4 standard deviations
    offsets = data.x - grid.means[data.labels]
    torch.testing.assert_close(offsets.std(0), torch.tensor([0.05, 0.05]), rtol=0.01, atol=0)


def test_means_and_what_is_far_from_them_or_refused():
    means = GridMixture().means
    assert sorted(means.tolist()) == [*map(list, product((-4, -2, 0, 2, 4), repeat=2))]
    assert sorted(GridMixture(side=2, spacing=3.0).means.tolist()) == [*map(list, product((-1.5, 1.5), repeat=2))]
    responsibilities = GridMixture().responsibilities(torch.tensor([[100.0, 100.0], [-1e4, 3.0]]))
    assert (responsibilities[0, 24], responsibilities[1].sum()) == (1, pytest.approx(1))
    mode, distance = GridMixture().nearest_mode(torch.tensor([[0.0, 0.1], [2.0, 1.0 + 1e-3], [9.0, 4.0]]))
    assert means[mode].tolist() == [[0, 0], [2, 2], [4, 4]]
    torch.testing.assert_close(distance, torch.tensor([2.0, 19.98, 100.0]))
    for wrong in ({"side": 0}, {"spacing": 0}, {"std": 0}, {"std": -1}):
        with pytest.raises(AlikitError, match="a grid needs side >= 1, spacing > 0 and std > 0"):
            GridMixture(**wrong)
    with pytest.raises(AlikitError, match="at least 1"):
        GridMixture().sample(0)


@pytest.mark.parametrize("offset", [0.0, 1e-4, 0.15])
def test_distance_close_to_a_mean_is_exact(offset):
    """Away from the origin, |x|^2 - 2 x m + |m|^2 loses distances like these in float32."""
    grid = GridMixture()
    x = grid.means.double().repeat(4, 1) + torch.tensor([offset, 0.0], dtype=torch.float64)
    mode, distance = grid.nearest_mode(x.float())  # PyTorch takes the short cut from 26 points on
    assert mode.tolist() == list(range(25)) * 4
    np.testing.assert_allclose(distance, offset / 0.05, atol=2e-5)


# Examples.

PIXELS = torch.randint(0, 256, (23, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PICTURES = Dataset("pictures", PIXELS, torch.arange(23), [*"abcdefghijklmnopqrstuvw"], {"size": torch.arange(23) * 10})
POINTS = Dataset("points", torch.randn(23, 2, generator=torch.Generator().manual_seed(0)))


def test_pictures_become_floats_and_points_stay_as_they_are():
    assert (len(PICTURES), PICTURES.shape, POINTS.shape) == (23, (3, 4, 5), (2,))
    for index in (slice(None), slice(3, 7), torch.tensor([5, 0, 5])):
        assert torch.equal(PICTURES.floats(index), PIXELS[index].float() / 255)
        assert torch.equal(POINTS.floats(index), POINTS.x[index])
    batches = list(PICTURES.batches(10))
    assert [len(batch) for batch in batches] == [10, 10, 3] and torch.equal(torch.cat(batches), PICTURES.floats())
    np.testing.assert_allclose(PICTURES.mean(), PIXELS.numpy().mean(0) / 255, rtol=1e-6)
    several_batches = torch.cat([torch.zeros(1000, 1), torch.full((500, 1), 3.0)])
    assert Dataset("points", several_batches).mean().item() == pytest.approx(1)


def test_split_shares_nothing_loses_nothing_and_is_the_same_every_time():
    state = torch.get_rng_state()
    train, held_out = PICTURES.split(5)
    assert (len(train), len(held_out)) == (18, 5)
    assert sorted([*train.labels.tolist(), *held_out.labels.tolist()]) == list(range(23))
    assert torch.equal(held_out.x, PIXELS[held_out.labels]) and torch.equal(state, torch.get_rng_state())
    assert torch.equal(held_out.factors["size"], 10 * held_out.labels) and POINTS.split(5)[1].labels is None
    torch.rand(3)
    assert torch.equal(held_out.labels, PICTURES.split(5)[1].labels)
    assert not torch.equal(held_out.labels, PICTURES.split(5, seed=2)[1].labels)
    for wrong in (0, 23):
        with pytest.raises(AlikitError, match=f"cannot hold out {wrong} of 23 examples: choose between 1 and 22"):
            PICTURES.split(wrong)


def test_conditions_are_attributes_or_one_of_the_classes():
    attributes = torch.arange(69, dtype=torch.uint8).view(23, 3) % 2
    some = Dataset("faces", PIXELS, attributes, ("a", "b", "c")).select(torch.tensor([4, 2]))
    assert torch.equal(some.conditions(), attributes[[4, 2]])
    classes = Dataset("points", POINTS.x[:3], torch.tensor([2, 0, 2]))
    assert classes.conditions().tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    with pytest.raises(AlikitError, match="points has neither attributes nor classes"):
        POINTS.conditions()


def test_it_fits_where_twice_as_much_is_free(monkeypatch):
    for free, fits in ((2 * 23 * 60, True), (2 * 23 * 60 - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        assert PICTURES.fits("cuda") is PICTURES.fits(torch.device("cuda", 0)) is fits and PICTURES.fits("cpu")
    moved = PICTURES.to("meta")
    assert moved.x.device.type == "meta" and moved.labels.device.type == "cpu"


def test_some_are_always_the_same_and_not_the_first():
    data = Dataset("points", torch.arange(1000.0)[:, None], torch.arange(1000))
    some = data.some(50)
    assert torch.equal(some.x, data.some(50).x) and torch.equal(some.x[:, 0].long(), some.labels)
    assert len(some.labels.unique()) == 50 and some.labels.max() > 500
    assert torch.equal(data.some(10).x, some.x[:10]) and data.some(1000) is data


# Labels.


def folder(n: int = 600, classes: str = "abcd") -> Dataset:
    """Examples in order of their classes, as a folder is read; x is an example's number."""
    labels = torch.arange(n) * len(classes) // n
    return Dataset("pets", torch.arange(n)[:, None].float(), labels, tuple(classes), {"tenth": torch.arange(n) / 10})


def numbers(data: Dataset) -> list[int]:
    return data.x[:, 0].long().tolist()


def test_as_many_labels_of_each_class_by_the_seed_alone():
    data, state = folder(), torch.get_rng_state()
    few = few_labels(data, 20, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert few.labels.bincount().tolist() == [5, 5, 5, 5] and len({*numbers(few)}) == 20
    assert torch.equal(few.labels, data.labels[numbers(few)])
    assert torch.equal(few.factors["tenth"], data.factors["tenth"][numbers(few)])
    torch.manual_seed(9)
    assert numbers(few_labels(data, 20, seed=0)) == numbers(few)
    assert len({tuple(numbers(few_labels(data, 20, seed))) for seed in range(10)}) == 10
    assert Dataset("pets", data.x, data.labels).labelled(8).labels.bincount().tolist() == [2, 2, 2, 2]
    assert sorted(numbers(folder(40).labelled(40))) == list(range(40))
    # Every example has its chance, but those that choose settings.
    data = folder(100, "ab")
    rest, validation = labels_to_spare(data)
    assert sorted(numbers(rest) + numbers(validation)) == list(range(100))
    assert {number for seed in range(60) for number in numbers(few_labels(data, 20, seed))} == {*numbers(rest)}
    assert numbers(labels_to_spare(data)[1]) == numbers(for_settings(data)) == numbers(validation)


@pytest.mark.parametrize(("examples", "kept"), [(2, 1), (104, 20), (49_999, 9_999), (80_000, 10_000)])
def test_a_fifth_is_kept_to_choose_settings_by_or_ten_thousand(examples, kept):
    """Of every class as many, though the last fifth of the folder is all of one."""
    parts = labels_to_spare(folder(examples))
    assert list(map(len, parts)) == [examples - kept, kept]
    shares = [part.labels.bincount() / len(part) for part in parts]
    assert kept < 1000 or torch.stack(shares).sub(0.25).abs().max() < 0.02


NO_CLASSES = "[a-z]+ has no classes to tell apart: name data whose examples have one class each"


@pytest.mark.parametrize(
    ("data", "n", "says"),
    [
        (POINTS, 10, NO_CLASSES),
        (Dataset("faces", torch.randn(50, 2), torch.ones(50, 4)), 8, NO_CLASSES),
        (folder(classes="a"), 5, NO_CLASSES),
        (folder(), 484, "484 labels are wanted; pets has [0-9]+ to spare of class [a-d]: ask for at most [0-9]+, .*"),
        *((folder(), n, f"{n} labels cannot be shared out evenly over 4 .*: ask for .*") for n in (13, 0, -4)),
        (
            folder().select(slice(450)),
            12,
            ".* pets has 0 to spare of class d: name data with more of it",
        ),
        (folder().select(slice(452)), 12, ".* pets has [12] to spare of class d: ask for at most [48], .*"),
    ],
)
def test_labels_that_cannot_be_had(data, n, says):
    with pytest.raises(AlikitError) as error:
        few_labels(data, n, seed=0)
    assert re.fullmatch(says, str(error.value)), error.value


# Conditions.

NAMES = ("Bald", "Black_Hair", "Blond_Hair", "Eyeglasses", "Male", "Young")


def y_of(*named: str) -> torch.Tensor:
    return torch.tensor([name in named for name in NAMES], dtype=torch.uint8)


def people(*rows: torch.Tensor) -> Dataset:
    return Dataset("faces", torch.zeros(len(rows), 2), torch.stack(rows), NAMES)


FEW = Dataset("digits", torch.zeros(3, 2), torch.tensor([0, 2, 2]), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: columns_of(["Eyeglases"], NAMES), "no attribute called 'Eyeglases': did you mean Eyeglasses?"),
        (lambda: columns_of(["zzz"], NAMES), "no attribute called 'zzz': there are Bald, Black_Hair"),
        (lambda: columns_of(["Male", "-Male"], NAMES), "Male cannot be and not be"),
        (lambda: switched(y_of(), "Male", NAMES), "names come in a list: ['Male']"),
        (lambda: switched(y_of()[:3], ["Male"], NAMES), "y has 3 numbers, and there are 6 attributes"),
        (lambda: usual(FEW, ["a", "b"]), "one class: name one of a, b, c"),
        (lambda: usual(FEW, ["-a"]), "one class: name one of a, b, c"),
        (lambda: paper_grid(people(y_of("Male"))), "the paper's grid asks for Attractive, Brown_Hair, "),
    ],
)
def test_names_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(AlikitError, match=re.escape(message)):
        wrong()


def test_a_switch_changes_what_it_names_and_no_y_but_its_own():
    assert columns_of(["Eyeglasses", "-Young"], NAMES) == {3: 1, 5: 0}
    before = torch.stack([y_of("Male"), y_of("Eyeglasses")])
    after = switched(before, ["Eyeglasses", "-Male"], NAMES)
    assert torch.equal(after, y_of("Eyeglasses").expand(2, -1)) and after.dtype == before.dtype
    assert torch.equal(before[0], y_of("Male"))
    # A hair colour takes the others back, and only them; unless both are asked for.
    assert torch.equal(switched(y_of("Black_Hair", "Male"), ["Blond_Hair"], NAMES), y_of("Blond_Hair", "Male"))
    assert torch.equal(switched(y_of("Black_Hair"), ["-Blond_Hair", "Bald"], NAMES), y_of("Black_Hair", "Bald"))
    assert torch.equal(switched(y_of(), ["Black_Hair", "Blond_Hair"], NAMES), y_of("Black_Hair", "Blond_Hair"))


def test_names_with_a_comma_or_a_sign_of_their_own():
    cities = ("-1", "1", "New York, NY", "New York", "Paris")
    assert names_in("New York, NY,-Paris, New York", cities) == ["New York, NY", "-Paris", "New York"]
    assert names_in("-New York, NY", cities) == ["-New York, NY"] and names_in(" , ,", cities) == []
    assert names_in("-1,Rome, 1", cities) == ["-1", "Rome", "1"]
    assert columns_of(["-1"], cities) == {0: 1}
    assert columns_of(["--1", "New York, NY", "-Paris"], cities) == {0: 0, 2: 1, 4: 0}


def test_what_is_not_named_is_as_with_most_that_share_what_is():
    faces = people(y_of("Male", "Black_Hair"), y_of("Male", "Black_Hair"), y_of("Male"), *[y_of("Young")] * 9)
    assert torch.equal(usual(faces, ["Male"]), y_of("Male", "Black_Hair"))
    assert torch.equal(usual(faces, ["-Male"]), y_of("Young"))
    assert torch.equal(usual(faces, []), y_of("Young"))
    assert torch.equal(usual(faces, ["Male", "Blond_Hair"]), y_of("Male", "Blond_Hair", "Young"))  # there is none
    assert usual(FEW, ["b"]).tolist() == [0, 1, 0]


def test_the_papers_grid():
    drawn = faces(1000)
    grid, place = paper_grid(drawn), drawn.classes.index
    assert grid.shape == (4, 12, 14) and grid.dtype == torch.uint8
    for name, rows in (("Male", [1, 1, 0, 0]), ("Young", [1, 0, 1, 0]), ("Attractive", [1, 1, 1, 1])):
        assert (grid[:, :, place(name)] == torch.tensor(rows)[:, None]).all()
    for column, names in enumerate(COLUMNS.values()):
        assert (grid[:, column, [place(name) for name in names]] == 1).all()
    hair = grid[:, 1:, [place(name) for name in ("Black_Hair", "Blond_Hair", "Brown_Hair")]]
    assert (hair.sum(2) == 1).all() and {*drawn.classes} == {*NAMED}
