"""The drawn faces: what the docstrings promise, measured in the pictures; and CelebA's format, read back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from on_disk import md5
from PIL import Image
from torchvision import datasets

from alikit.data import celeba, faces, faces_with, load, published, sources
from alikit.data.drawing import CHUNK
from alikit.data.faces import ATTRIBUTES, CELEBA_ATTRIBUTES, HAIR, RECIPE, SKINS, write_celeba
from alikit.errors import AlikitError

AT = {name: column for column, name in enumerate(ATTRIBUTES)}


@pytest.fixture(scope="module")
def data():
    return faces(3000, seed=0)


@pytest.fixture(scope="module")
def anything() -> torch.Tensor:
    """Labels (CHUNK, 14) in which every attribute is there or not by chance, with one colour of hair or none."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(CHUNK, len(ATTRIBUTES), generator=generator) < 0.5).to(torch.uint8)
    colour = torch.randint(len(HAIR) + 1, (CHUNK,), generator=generator)
    for k, name in enumerate(HAIR):
        labels[:, AT[name]] = colour == k
    return labels


def labelled(*names: str, n: int = 1) -> torch.Tensor:
    return torch.tensor([[int(name in names) for name in ATTRIBUTES]] * n, dtype=torch.uint8)


def switched(labels: torch.Tensor, name: str) -> torch.Tensor:
    """The labels with one of them flipped; where hair gets a colour by it, it loses the one that it had."""
    flipped = labels.clone()
    if name in HAIR:
        flipped[:, [AT[other] for other in HAIR]] = 0
    flipped[:, AT[name]] = 1 - labels[:, AT[name]]
    return flipped


def test_shapes_dtypes_and_ranges(data):
    assert data.x.shape == (3000, 3, 32, 32) and data.x.dtype == torch.uint8 and data.name == "faces"
    assert data.labels.shape == (3000, 14) and data.labels.dtype == torch.uint8
    assert data.classes == ATTRIBUTES and set(data.labels.unique().tolist()) == {0, 1}
    expected = {  # shape of a row, least, greatest
        "pose": ((), -1, 1),
        "tilt": ((), -8, 8),
        "position": ((2,), -0.06, 0.06),
        "scale": ((), 0.95, 1.03),
        "skin": ((3,), 0.15, 1),
        "background": ((3,), 0.4, 0.92),
        "shirt": ((3,), 0.05, 0.65),
        "hat": ((3,), 0.05, 0.75),
        "iris": ((3,), 0.05, 0.45),
        "shade": ((), -1, 1),
        "red": ((), 0, 1),
    }
    assert data.factors.keys() == expected.keys()
    for name, (shape, least, greatest) in expected.items():
        values = data.factors[name].float()
        assert values.shape == (3000, *shape), name
        assert values.min() >= least and values.max() <= greatest, name
        assert values.max() - values.min() > 0.8 * (greatest - least), f"{name} does not use its range"


def test_the_names_are_celebas_in_its_order():
    assert len(CELEBA_ATTRIBUTES) == len(set(CELEBA_ATTRIBUTES)) == 40
    assert list(CELEBA_ATTRIBUTES) == sorted(CELEBA_ATTRIBUTES)
    assert tuple(name for name in CELEBA_ATTRIBUTES if name in ATTRIBUTES) == ATTRIBUTES


def test_same_seed_same_faces_and_any_n_is_a_prefix(data):
    for n in (1, CHUNK, CHUNK + 1):
        fewer = faces(n, seed=0)
        assert torch.equal(fewer.x, data.x[:n]) and torch.equal(fewer.labels, data.labels[:n])
    assert not torch.equal(faces(CHUNK, seed=1).factors["skin"], data.factors["skin"][:CHUNK])


def test_the_same_faces_at_both_sizes(data):
    large = faces(50, size=64, seed=0)
    assert large.shape == (3, 64, 64) and torch.equal(large.labels, data.labels[:50])
    assert all(torch.equal(large.factors[name], data.factors[name][:50]) for name in data.factors)
    shrunk = torch.nn.functional.avg_pool2d(large.floats(), 2)
    assert (shrunk - data.floats(slice(50))).abs().mean() < 0.04


def test_global_random_numbers_are_neither_read_nor_moved(data):
    before = torch.manual_seed(123).get_state()
    assert torch.equal(faces(10).x, data.x[:10])
    assert torch.equal(torch.get_rng_state(), before)


# How labels are drawn.


def test_shares_are_near_celebas():
    published = {
        **{"Attractive": 0.51, "Bald": 0.022, "Bangs": 0.15, "Black_Hair": 0.24, "Blond_Hair": 0.15},
        **{"Brown_Hair": 0.21, "Eyeglasses": 0.065, "Male": 0.42, "Mouth_Slightly_Open": 0.48},
        **{"Receding_Hairline": 0.08, "Smiling": 0.48, "Wavy_Hair": 0.32, "Wearing_Hat": 0.05, "Young": 0.77},
    }
    shares = dict(zip(ATTRIBUTES, expected_shares(), strict=True))
    assert shares.keys() == published.keys()
    assert all(abs(shares[name] - share) < 0.04 for name, share in published.items()), shares


def expected_shares() -> list[float]:
    """The shares that RECIPE means, over all combinations of its labels instead of a sample."""
    known: dict[tuple[tuple[str, int], ...], float] = {(): 1.0}
    relevant = {other for lines in RECIPE.values() for conditions, _ in lines for other in conditions}
    shares = {}
    for name, lines in RECIPE.items():
        grown: dict[tuple[tuple[str, int], ...], float] = {}
        shares[name] = 0.0
        for values, weight in known.items():
            p = next(p for conditions, p in lines if conditions.items() <= dict(values).items())
            shares[name] += weight * p
            for value, part in ((1, p), (0, 1 - p)):
                key = (*values, (name, value)) if name in relevant else values
                grown[key] = grown.get(key, 0) + weight * part
        known = grown
    return [shares[name] for name in ATTRIBUTES]


def test_labels_are_drawn_by_the_recipe(data):
    shares = data.labels.float().mean(0)
    deviation = (torch.tensor(expected_shares()) * (1 - shares) / len(data)).sqrt()
    assert ((shares - torch.tensor(expected_shares())).abs() < 4 * deviation + 1e-6).all()


def test_attributes_travel_together_as_they_do_there(data):
    correlation = torch.corrcoef(data.labels.T.float())
    together = [("Smiling", "Mouth_Slightly_Open"), ("Young", "Attractive"), ("Male", "Bald")]
    apart = [("Blond_Hair", "Male"), ("Wavy_Hair", "Male"), ("Eyeglasses", "Young"), ("Bald", "Young")]
    for pairs, sign in ((together, 1), (apart, -1)):
        for a, b in pairs:
            assert sign * correlation[AT[a], AT[b]] > 0.1, (a, b)


def test_what_the_data_never_shows(data):
    has = {name: data.labels[:, AT[name]].bool() for name in ATTRIBUTES}
    for other in ("Bangs", "Receding_Hairline", "Wavy_Hair"):
        assert not (has["Bald"] & has[other]).any(), other
    assert has["Bald"].any() and not (has["Bald"] & ~has["Male"]).any()
    assert data.labels[:, [AT[name] for name in HAIR]].sum(1).max() == 1


def test_factors_are_independent_of_the_labels_and_of_each_other(data):
    columns = torch.cat([values.float().view(3000, -1)[:, :1] for values in data.factors.values()], dim=1)
    known = len(data.factors)
    correlation = torch.corrcoef(torch.cat([columns, data.labels.float()], dim=1).T) - torch.eye(known + 14)
    assert correlation[:known].abs().max() < 0.08  # standard deviation 0.018
    # Every tone of skin, from light to dark, is as frequent with any attribute as without.
    assert data.factors["skin"][:, 0].quantile(0.02) < SKINS[-1][0] + 0.04
    assert data.factors["skin"][:, 0].quantile(0.98) > SKINS[0][0] - 0.04


# Faces with given labels.


def test_given_the_labels_of_faces_it_draws_the_same_faces(data):
    again = faces_with(data.labels[:300], seed=0)
    assert torch.equal(again.x, data.x[:300]) and torch.equal(again.labels, data.labels[:300])
    assert again.classes == data.classes and again.name == data.name


def test_everything_else_is_the_same_whatever_the_labels(data, anything):
    given = faces_with(anything, seed=0)
    assert torch.equal(given.labels, anything)
    assert all(torch.equal(given.factors[name], data.factors[name][:CHUNK]) for name in data.factors)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_labels_of_any_type(anything, dtype):
    assert torch.equal(faces_with(anything[:5].to(dtype)).x, faces_with(anything[:5]).x)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_switch_can_be_seen_whatever_the_others(anything, name):
    """In all at least as much as one pixel from black to white: few are enough where one looks for them."""
    before, after = faces_with(anything), faces_with(switched(anything, name))
    change = (after.x.int() - before.x.int()).abs().amax(1)
    assert change.sum((1, 2)).min() > 255 and change.sum((1, 2)).median() > 700


@pytest.mark.parametrize(
    ("name", "top", "bottom", "left", "right"),
    [
        ("Attractive", 0.62, 1, 0.2, 0.7),  # the pin on the shirt
        ("Bangs", -0.5, 0, -0.6, 0.6),
        ("Eyeglasses", -0.25, 0.35, -0.7, 0.7),
        ("Mouth_Slightly_Open", 0.15, 0.6, -0.4, 0.4),
        ("Receding_Hairline", -0.7, 0.2, -0.75, 0.75),
        ("Smiling", 0.05, 0.6, -0.6, 0.6),
        ("Wavy_Hair", -0.9, 0.4, -0.9, 0.9),
        ("Wearing_Hat", -1, -0.3, -0.9, 0.9),
        ("Young", -0.45, 0.5, -0.65, 0.65),
    ],
)
def test_a_switch_changes_nothing_elsewhere(name, top, bottom, left, right):
    """Rows and columns in half sides from the middle, of short-haired faces at any pose and tilt."""
    labels = labelled("Male", "Young", n=CHUNK)
    before, after = faces_with(labels, seed=2), faces_with(switched(labels, name), seed=2)
    rows, columns = ((before.x != after.x).any(1).any(0).any(axis).nonzero()[:, 0] for axis in (1, 0))
    ticks = (torch.arange(32) + 0.5) / 16 - 1
    assert top < ticks[rows[0]] and ticks[rows[-1]] < bottom
    assert left < ticks[columns[0]] and ticks[columns[-1]] < right


def test_colours_of_hair_are_what_they_are_called():
    """Above the forehead; grey and red where none is said."""
    hair = {name: faces_with(labelled("Male", name, n=CHUNK)).x[:, :, 6, 16].float() / 255 for name in HAIR}
    red, green, blue = hair["Blond_Hair"].unbind(1)
    assert (red > 0.65).all() and (blue < 0.75 * green).all()
    assert (hair["Black_Hair"].amax(1) < 0.2).all()
    red, green, blue = hair["Brown_Hair"].unbind(1)
    assert (red > green + 0.08).all() and (green > blue).all() and (red < 0.55).all()
    other = faces_with(labelled("Male", n=CHUNK))
    colour, is_red = other.x[:, :, 6, 16].float() / 255, other.factors["red"]
    assert (colour[is_red, 0] > 2 * colour[is_red, 1]).all()
    assert (colour[~is_red].amax(1) - colour[~is_red].amin(1) < 0.12).all()


def test_skin_and_background_are_true():
    """In a corner and between hair and brows, within what light and noise do."""
    data = faces_with(labelled("Male", "Young", "Black_Hair", n=CHUNK), size=64)
    for name, row, column in (("background", 2, 2), ("skin", 24, 32)):
        assert (data.floats()[:, :, row, column] - data.factors[name]).abs().max() < 0.13, name


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(5, 13), r"labels of shape \(5, 13\): expected \(N, 14\), 0 or 1 each"),
        (torch.zeros(14), r"labels of shape \(14,\): expected"),
        (torch.tensor(1), r"labels of shape \(\): expected"),
        (torch.full((5, 14), -1), "labels that are neither 0 nor 1"),
        (torch.full((5, 14), 0.5), "labels that are neither 0 nor 1"),
        (torch.full((5, 14), float("nan")), "labels that are neither 0 nor 1"),
        (torch.zeros(0, 14), "at least 1 picture, got 0"),
        (
            torch.cat([labelled(), labelled("Black_Hair", "Blond_Hair")]),
            "labels in row 1 give hair two colours: choose at most one of Black_Hair, Blond_Hair, Brown_Hair",
        ),
    ],
)
def test_wrong_labels_are_one_clear_line(labels, message):
    with pytest.raises(AlikitError, match=message) as caught:
        faces_with(labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 32, 0), "at least 1 picture"), ((5, 32, -1), "seed must not be negative"), ((5, 31, 0), "at least 32")],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(AlikitError, match=message) as caught:
        faces(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("size", "side"), [(None, 32), (32, 32), (64, 64)])
def test_by_name(monkeypatch, size, side):
    asked = []

    def fewer(n, size, seed):
        asked.append((n, size, seed))
        return faces(n // 1000, size, seed)

    monkeypatch.setattr(sources, "faces", fewer)
    train, held_out = load("faces", size=size)
    assert asked == [(20_000, side, 0), (2_000, side, 1)]
    assert train.shape == held_out.shape == (3, side, side) and train.classes == ATTRIBUTES
    assert torch.equal(train.x, faces(20, side, seed=0).x)
    with pytest.raises(AlikitError, match="choose at least 32"):
        load("faces", size=16)


# In CelebA's format.


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("written")
    write_celeba(root, 40, seed=3)
    return root


@pytest.fixture
def copy(written, tmp_path) -> Path:
    """One of one's own to damage."""
    shutil.copytree(written / "celeba", tmp_path / "copy" / "celeba")
    return tmp_path / "copy"


def test_what_was_written_is_what_is_read(written):
    drawn, (train, held_out) = faces(40, size=64, seed=3), load(f"celeba:{written}")
    assert (len(train), len(held_out), len(celeba(written, "test"))) == (32, 4, 4)
    for part, of in ((train, slice(32)), (held_out, slice(32, 36)), (celeba(written, "test"), slice(36, 40))):
        assert part.name == "celeba drawn by alikit" and part.classes == CELEBA_ATTRIBUTES
        assert part.shape == (3, 64, 64) and part.labels.dtype == torch.uint8
        named = [part.classes.index(name) for name in ATTRIBUTES]
        assert torch.equal(part.labels[:, named], drawn.labels[of])
        assert part.labels.sum() == drawn.labels[of].sum(), "an attribute that is not drawn"
        assert (part.x.float() - drawn.x[of].float()).abs().mean() < 4
    assert load(f"celeba:{written}", size=32)[0].shape == (3, 32, 32)


def test_its_files_have_celebas_form(written):
    folder = written / "celeba"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*published.CELEBA_TABLES, "img_align_celeba", "drawn-by-alikit.json"]
    )
    pictures = sorted((folder / "img_align_celeba").iterdir())
    assert [file.name for file in pictures] == [f"{i:06}.jpg" for i in range(1, 41)]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (178, 218) and picture.mode == "RGB" and picture.format == "JPEG"
    marker = json.loads((folder / "drawn-by-alikit.json").read_text())
    assert marker["md5"] == {name: md5(folder / name) for name in published.CELEBA_TABLES}
    assert "they are not CelebA" in marker["what"]
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "40" and len(lines) == 42 and lines[1].split() == list(CELEBA_ATTRIBUTES)


def test_torchvision_reads_all_five_tables(written, monkeypatch):
    folder = written / "celeba"
    listed = [("", md5(folder / name), name) for name in published.CELEBA_TABLES]
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
    read = datasets.CelebA(written, "all", ["attr", "identity", "bbox", "landmarks"])
    assert len(read) == 40 and read.identity[:, 0].tolist() == list(range(1, 41))
    assert read.landmarks_align.shape == (40, 10) and read.bbox.shape == (40, 4)
    for i, (picture, (_, _, box, places)) in enumerate(read):
        grey, (x, y, width, height) = np.asarray(picture.convert("L")) / 255, box.tolist()
        inside = [x < u < x + width and y < v < y + height for u, v in places.view(5, 2).tolist()]
        assert all(inside) and 70 < width < 90 and 95 < height < 115
        for u, v in places.view(5, 2)[:2].tolist():  # the pupils are the darkest that there is about the eyes
            assert grey[v, u] < 0.4, f"no eye in picture {i} at ({u}, {v})"


def test_a_folder_that_is_there_is_left_alone(copy):
    before = sorted(file.stat().st_mtime_ns for file in copy.rglob("*"))
    with pytest.raises(AlikitError, match=f"{copy / 'celeba'} exists already: delete it") as caught:
        write_celeba(copy, 20)
    assert "\n" not in str(caught.value)
    assert sorted(file.stat().st_mtime_ns for file in copy.rglob("*")) == before


def test_whole_or_not_at_all(tmp_path, monkeypatch):
    save, saved = Image.Image.save, []

    def full(picture, file, **options):
        if len(saved) == 5:
            raise OSError(28, "No space left on device")
        saved.append(file)
        save(picture, file, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AlikitError, match=r"cannot write .*celeba \(No space left on device\)") as caught:
        write_celeba(tmp_path, 20)
    assert "\n" not in str(caught.value) and len(saved) == 5 and list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AlikitError, match="cannot write"):
        write_celeba(tmp_path / "file", 20)
    with pytest.raises(AlikitError, match="19 faces cannot be divided into train, valid and test: choose at least 20"):
        write_celeba(tmp_path, 19)
    with pytest.raises(AlikitError, match="at least 32"):
        write_celeba(tmp_path, 20, size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _remove(name: str):
    return lambda folder: (folder / name).unlink()


def _append(name: str):
    return lambda folder: (folder / name).write_text((folder / name).read_text() + "\n")


DAMAGES = {
    r"list_attr_celeba\.txt is not as alikit drew it: delete .*celeba and draw it again": _append(
        "list_attr_celeba.txt"
    ),
    r"list_eval_partition\.txt is not as alikit drew it": _append("list_eval_partition.txt"),
    r"what alikit drew is incomplete: .*identity_CelebA\.txt is missing": _remove("identity_CelebA.txt"),
    r"what alikit drew is incomplete: .*img_align_celeba is missing": lambda folder: shutil.rmtree(
        folder / "img_align_celeba"
    ),
    r"1 of 32 pictures are missing, the first .*000002\.jpg; delete .*celeba and draw it again": _remove(
        "img_align_celeba/000002.jpg"
    ),
    r"drawn-by-alikit\.json is damaged: delete": lambda folder: (folder / "drawn-by-alikit.json").write_text("{}"),
    r"1 file is no readable picture .*000003\.jpg": lambda folder: (
        folder / "img_align_celeba" / "000003.jpg"
    ).write_bytes(b"no picture"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_what_was_damaged_is_refused_and_nothing_is_fetched(copy, monkeypatch, message):
    monkeypatch.setattr(published, "fetch", None)
    DAMAGES[message](copy / "celeba")
    with pytest.raises(AlikitError, match=message) as caught:
        celeba(copy, download=True)
    assert "\n" not in str(caught.value)


def test_it_is_never_taken_for_celeba(copy):
    """Not without its marker either, though it was read before and lies in the cache."""
    assert celeba(copy).name == celeba(copy).name == "celeba drawn by alikit"
    (copy / "celeba" / "drawn-by-alikit.json").unlink()
    with pytest.raises(AlikitError, match=r"list_attr_celeba\.txt is damaged or not the published file"):
        celeba(copy)
