"""Files of arrays, archives of pictures and Python objects, each as the libraries write them."""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from on_disk import noise
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms.v2.functional import to_dtype, to_image

from alikit import AlikitError, Dataset, load
from alikit.data.sources import canonical, is_resized

GREY, COLOUR = noise(0, 30, 9, 8), noise(1, 30, 9, 8, 3)  # rows and columns differ, so that none is taken for the other
LABELS = np.arange(30, dtype=np.uint8) % 3


def check(parts, pictures, labels, classes=("0", "1", "2"), lengths=None) -> None:
    """The parts are these pictures (N, H, W, C) and labels, the first of them to train on."""
    train, held_out = parts
    pictures = torch.from_numpy(pictures.reshape(*pictures.shape[:3], -1)).permute(0, 3, 1, 2)
    if lengths:
        assert (len(train), len(held_out)) == lengths
        assert torch.equal(torch.cat([train.x, held_out.x]), pictures)
        order = torch.arange(len(pictures))
    else:  # a tenth, at random
        assert len(held_out) == max(1, len(pictures) // 10) and len(train) + len(held_out) == len(pictures)
        seen = {picture.numpy().tobytes(): at for at, picture in enumerate(pictures)}
        order = torch.tensor([seen[x.numpy().tobytes()] for x in torch.cat([train.x, held_out.x])])
        assert order.unique().numel() == len(pictures)
    for part in parts:
        assert part.x.dtype == torch.uint8 and part.classes == (tuple(classes) if labels is not None else ())
    if labels is None:
        assert train.labels is None and held_out.labels is None
    else:
        found = torch.cat([train.labels, held_out.labels])
        assert found.dtype == torch.int64 and found.tolist() == torch.as_tensor(labels).long()[order].tolist()


def refused(source, message: str, **how) -> None:
    with pytest.raises(AlikitError, match=message) as raised:
        load(source, **how)
    assert "\n" not in str(raised.value)


# Arrays.

SPLIT = {"train": slice(20), "val": slice(20, 25), "test": slice(25, 30)}
LAYOUTS = {  # arrays by their names; the lengths of the parts, if they have some
    "one array": ({"arr_0": GREY}, None),
    "x and y": ({"x": COLOUR, "y": LABELS}, None),
    "images and labels, and more": ({"images": COLOUR, "labels": LABELS[:, None], "ids": LABELS}, None),
    "keras": ({"x_train": GREY[:25], "y_train": LABELS[:25], "x_test": GREY[25:], "y_test": LABELS[25:]}, (25, 5)),
    "medmnist": (
        {
            f"{s}_{r}": a[rows]
            for s, rows in SPLIT.items()
            for r, a in (("images", COLOUR), ("labels", LABELS[:, None]))
        },
        (20, 5),
    ),
    "no test": ({"X_train": COLOUR[:20], "X_val": COLOUR[20:]}, (20, 10)),
    "groups": ({"train/x": GREY[:25], "train/y": LABELS[:25], "test/x": GREY[25:], "test/y": LABELS[25:]}, (25, 5)),
    "coursera": ({"train_set_x": COLOUR, "train_set_y": LABELS}, None),
}


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_by_their_names(tmp_path, ending, layout):
    arrays, lengths = LAYOUTS[layout]
    file = tmp_path / f"some.{ending}"
    if ending == "npz":
        np.savez_compressed(file, **arrays)
    else:
        with h5py.File(file, "w") as out:
            for key, array in arrays.items():
                out.create_dataset(key, data=array, compression="gzip")
    pictures = GREY if any(array.ndim == 3 for array in arrays.values()) else COLOUR
    labels = LABELS if len(arrays) > 1 and layout != "no test" else None
    if layout == "medmnist":
        keep = np.r_[:20, 25:30]
        pictures, labels = pictures[keep], labels[keep]
    check(load(file), pictures, labels, lengths=lengths)
    assert canonical(file) == f"file:{file}" and not is_resized(f"file:{file}")
    refused(f"file:{file}", "have the size they have", size=32)


def test_names_of_classes_and_arrays_in_files_of_their_own(tmp_path):
    np.savez(tmp_path / "a.npz", x=GREY, y=LABELS, class_names=np.array(["cat", "dog", "newt", "owl"]))
    check(load(tmp_path / "a.npz"), GREY, LABELS, ("cat", "dog", "newt", "owl"))
    with h5py.File(tmp_path / "a.h5", "w") as out:
        out.update({"x": GREY, "classes": ["cat", "dog", "newt"], "y": LABELS})
    check(load(tmp_path / "a.h5"), GREY, LABELS, ("cat", "dog", "newt"))
    (tmp_path / "parts").mkdir()
    for name, rows in (("train", slice(25)), ("test", slice(25, 30))):
        np.save(tmp_path / "parts" / f"x_{name}.npy", GREY[rows])
        np.save(tmp_path / "parts" / f"y_{name}.npy", LABELS[rows])
    check(load(tmp_path / "parts"), GREY, LABELS, lengths=(25, 5))
    check(load(tmp_path / "parts" / "x_train.npy"), GREY[:25], None, lengths=None)
    (tmp_path / "several").mkdir()
    for name in ("pathmnist", "bloodmnist"):
        np.savez(tmp_path / "several" / f"{name}.npz", train_images=GREY)
    refused(tmp_path / "several", "which belong together is unknown: name one of them")


def test_parts_that_do_not_fit_each_other(tmp_path, caplog):
    def of(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    # Kaggle's: a test part without labels.
    check(load(of(x_train=GREY, y_train=LABELS, x_test=GREY[:4])), GREY, LABELS)
    assert "held-out part of file:a.npz has no labels" in caplog.text
    # A class that the test part lacks, and one that only it has.
    labels = np.array([3] * 25 + [5] * 5)
    parts = load(of(x_train=GREY[:25], y_train=labels[:25], x_test=GREY[25:], y_test=labels[25:]))
    check(parts, GREY, (labels - 3) // 2, ("3", "5"), (25, 5))
    refused(of(x_train=GREY, x_test=COLOUR), "are 1 x 9 x 8, held-out ones 3 x 9 x 8")
    refused(of(x=GREY, y=LABELS[:9]), "30 examples and 9 labels")
    refused(of(x_test=GREY), "only a part called test: add one called train")
    refused(of(a=GREY, b=GREY), "has a, b: call the arrays that you mean x and y")
    refused(of(x=GREY, images=GREY), "has both x and images")
    refused(of(x=GREY[:1]), "has 1 example")
    refused(of(x=GREY, y=np.array([{}] * 30)), "a.npz is damaged or not what it should be: write it anew")


def test_what_is_white_in_one_part_is_white_in_the_other(tmp_path):
    """The held-out part alone would be taken for 8 bits, the floats for no range at all."""
    deep = np.full((30, 9, 8), 255, np.uint16)
    deep[0] = 1023
    np.savez(tmp_path / "a.npz", x_train=deep[:25], x_test=deep[25:])
    train, held_out = load(tmp_path / "a.npz")
    assert train.x.unique().tolist() == [64, 255] and held_out.x.unique().tolist() == [64]
    floats = np.full((30, 9, 8), 0.001)
    floats[0] = 1
    assert load((floats[:25], floats[25:]))[1].x.unique().tolist() == [0]
    deep[0] = 3000
    np.save(tmp_path / "b.npy", deep)
    refused(tmp_path / "b.npy", r"file:b.npy: the values of x go from 255 to 3000.*as --white 3000 \(white=3000\)")
    assert load(tmp_path / "b.npy", white=4095)[0].x.unique().tolist()[0] == 16


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_damaged_and_hostile_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.array([Hostile()]), allow_pickle=True)
    np.savez("b.npz", x=GREY)
    whole = Path("b.npz").read_bytes()
    for name, content in (("c.npz", whole[:-30]), ("d.npy", pickle.dumps(Hostile())), ("h.npy", b"")):
        Path(name).write_bytes(content)
    for name in ("e.h5", "f.parquet", "g.tar"):
        Path(name).write_bytes(b"no")
    for name in ("a.npy", "c.npz", "d.npy", "e.h5", "f.parquet", "g.tar", "h.npy"):
        refused(name, f"{name} is damaged or not what it should be|cannot read {name}")
    assert not Path("harm").exists()
    refused("file:none.npz", "no file or folder none.npz")
    Path("a.pkl").write_bytes(pickle.dumps(Hostile()))
    refused("a.pkl", r"a.pkl is no file of arrays or pictures known here: make it one of \.npy")


# MNIST's format.


def write_idx(file: Path, array: np.ndarray) -> None:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def write_mnist(folder: Path, pattern: str, pictures: np.ndarray, labels: np.ndarray, test: str = "t10k") -> None:
    for split, rows in (("train", slice(25)), (test, slice(25, 30))):
        write_idx(folder / pattern.format(split, "images-idx3"), pictures[rows])
        write_idx(folder / pattern.format(split, "labels-idx1"), labels[rows])


@pytest.mark.parametrize(
    "pattern", ["{}-{}-ubyte", "{}-{}-ubyte.gz", "MNIST/raw/{}-{}-ubyte", "{0}-images.idx3-ubyte", "odd-{}-{}-ubyte.gz"]
)
def test_mnist_files(tmp_path, pattern):
    if "images" in pattern:  # as on Kaggle
        for split, rows in (("train", slice(25)), ("t10k", slice(25, 30))):
            write_idx(tmp_path / f"{split}-images.idx3-ubyte", GREY[rows])
            write_idx(tmp_path / f"{split}-labels.idx1-ubyte", LABELS[rows])
    else:
        write_mnist(tmp_path, pattern, GREY, LABELS)
    check(load(tmp_path), GREY, LABELS, lengths=(25, 5))
    file = next(file for file in tmp_path.rglob("*train*") if file.is_file())
    check(load(file), GREY, LABELS, lengths=(25, 5))
    file.write_bytes(file.read_bytes()[:-9])
    refused(tmp_path, "ubyte.* is damaged or not what it should be: fetch it again")
    file.unlink()
    refused(tmp_path, "only a part called t10k|no file of labels beside it")


def test_nists_emnist_is_turned_upright(tmp_path):
    """As NIST writes it: columns for rows, labels from 1."""
    write_mnist(tmp_path, "emnist-letters-{}-{}-ubyte.gz", GREY.swapaxes(1, 2), LABELS + 1, "test")
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    check(load(tmp_path), GREY, LABELS, letters, (25, 5))
    write_mnist(tmp_path, "emnist-digits-{}-{}-ubyte.gz", GREY.swapaxes(1, 2), LABELS, "test")
    refused(tmp_path, r"has several sets \(.*emnist-digits-.*\): name one of these files")
    check(load(tmp_path / "emnist-digits-test-labels-idx1-ubyte.gz"), GREY, LABELS, tuple("0123456789"), (25, 5))


# Archives.


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def write_shards(folder: Path, pattern: str, rows: range, **more) -> None:
    folder.mkdir(exist_ok=True)
    with webdataset.ShardWriter(str(folder / pattern), maxcount=10, verbose=0) as out:
        for i in rows:
            out.write({"__key__": f"some/{i:06}", "png": encoded(COLOUR[i]), **{k: f(i) for k, f in more.items()}})


LABELLED = {
    "cls": lambda i: int(LABELS[i]),
    "json": lambda i: {"label": int(LABELS[i]), "caption": "a"},
}


@pytest.mark.parametrize("kind", LABELLED)
def test_webdataset_shards(tmp_path, kind):
    write_shards(tmp_path / "w", "odd-train-%06d.tar", range(25), **{kind: LABELLED[kind], "txt": str})
    write_shards(tmp_path / "w", "odd-test-%06d.tar", range(25, 30), **{kind: LABELLED[kind]})
    check(load(tmp_path / "w"), COLOUR, LABELS, lengths=(25, 5))
    check(load(f"file:{tmp_path}/w/odd-test-000000.tar"), COLOUR[25:], LABELS[25:])
    assert is_resized(str(tmp_path / "w")) and load(tmp_path / "w", size=4)[0].shape == (3, 4, 4)
    # webdataset itself reads the same.
    pipeline = webdataset.WebDataset(str(tmp_path / "w" / "odd-train-000001.tar"), shardshuffle=False).decode("rgb8")
    assert [np.array_equal(sample["png"], COLOUR[10 + i]) for i, sample in enumerate(pipeline)] == [True] * 10


def test_packed_and_damaged_shards(tmp_path, caplog):
    write_shards(tmp_path / "w", "%06d.tar.gz", range(10), cls=LABELLED["cls"])
    check(load(tmp_path / "w"), COLOUR[:10], LABELS[:10])
    write_shards(tmp_path / "u", "%06d.tar", range(10), pyd=lambda i: Hostile)
    check(load(tmp_path / "u"), COLOUR[:10], None)
    assert "has no labels (.cls)" in caplog.text
    shard = tmp_path / "u" / "000000.tar"
    with tarfile.open(shard, "w") as out:
        for i in range(10):
            info = tarfile.TarInfo(f"cat/{i}.jpg")
            content = b"no picture" if i == 3 else encoded(COLOUR[i])
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    refused(tmp_path / "u", r"1 of 10 files are no readable pictures \(.*000000.tar/cat/3\)")
    assert sum(map(len, load(tmp_path / "u", skip_corrupt=True))) == 9
    os.truncate(shard, 9000)  # in the middle of a picture
    refused(tmp_path / "u", "000000.tar is damaged or not what it should be")
    refused("file:pipe:cat /etc/passwd", "no file or folder pipe:")


def write_parquet(file: Path, rows: slice, image="image", label="label", names=("cat", "dog", "newt")) -> None:
    """As `datasets` writes it, groups of a few rows each."""
    cells = [{"bytes": encoded(pixels), "path": None} for pixels in COLOUR[rows]]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {image: {"_type": "Image"}, label: {"names": [*names], "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([(image, kind), (label, pa.int64())], metadata=about)
    labels = LABELS[rows].astype(np.int64) if names else [-1] * len(cells)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({image: pa.array(cells, kind), label: labels}, schema=schema), file, row_group_size=7)


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label")])
def test_parquet_of_datasets(tmp_path, image, label):
    for name, rows in (("train-00000-of-00002", slice(15)), ("train-00001-of-00002", slice(15, 25)),
                       ("test-00000-of-00001", slice(25, 30))):  # fmt: skip
        write_parquet(tmp_path / "data" / f"{name}.parquet", rows, image, label)
    check(load(tmp_path), COLOUR, LABELS, ("cat", "dog", "newt"), (25, 5))
    assert load(f"file:{tmp_path}", size=4)[1].shape == (3, 4, 4)
    check(
        load(tmp_path / "data" / "train-00001-of-00002.parquet"), COLOUR[15:25], LABELS[15:25], ("cat", "dog", "newt")
    )


def test_plain_and_unlabelled_parquet(tmp_path):
    pq.write_table(
        pa.table({"image": [*map(encoded, COLOUR)], "target": [f"c{y}" for y in LABELS]}), tmp_path / "a.parquet"
    )
    check(load(tmp_path / "a.parquet"), COLOUR, LABELS, ("c0", "c1", "c2"))
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "must have one column of pictures, and has none, but text, label")
    pq.write_table(pa.table({"image": [*map(encoded, COLOUR)], "label": [0] * 29 + [None]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "1 of 30 examples have no label")


@pytest.mark.parametrize(("module", "file"), [("h5py", "a.h5"), ("pyarrow.parquet", "a.parquet")])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, module, file):
    (tmp_path / file).write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    refused(tmp_path / file, r"pip install alikit\[(hdf5|parquet)\]")


# Python objects.


def as_pil() -> list:
    return [(Image.fromarray(pixels), int(y)) for pixels, y in zip(COLOUR, LABELS, strict=True)]


class Own:
    classes = ("cat", "dog", "newt")

    def __init__(self, change):
        self.change = change

    def __len__(self):
        return 30

    def __getitem__(self, at):
        return self.change(Image.fromarray(COLOUR[at])), LABELS[at]


FLOATS = COLOUR.transpose(0, 3, 1, 2).astype(np.float32) / 255
OBJECTS = {
    "list of PIL": as_pil,
    "two lists": lambda: ([Image.fromarray(x) for x in COLOUR], LABELS.tolist()),
    "own": lambda: Own(lambda x: x),
    "own floats": lambda: Own(lambda x: to_dtype(to_image(x), torch.float32, scale=True)),
    "own arrays": lambda: Own(np.asarray),
    "subset": lambda: Subset(Own(np.asarray), range(30)),
    "concat": lambda: ConcatDataset([Subset(Own(np.asarray), range(9)), Subset(Own(np.asarray), range(9, 30))]),
    "tensors": lambda: TensorDataset(torch.from_numpy(FLOATS), torch.from_numpy(LABELS)),
    "x and y": lambda: (torch.from_numpy(FLOATS), LABELS),
    "mapping": lambda: {"x": COLOUR, "y": LABELS},
    "rows of datasets": lambda: [
        {"image": Image.fromarray(x), "label": y} for x, y in zip(COLOUR, LABELS, strict=True)
    ],
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name):
    classes = ("cat", "dog", "newt") if name.startswith(("own", "subset", "concat")) else ("0", "1", "2")
    check(load(OBJECTS[name]()), COLOUR, LABELS, classes)


def test_pairs_of_parts(tmp_path):
    own = Own(np.asarray)
    check(load((Subset(own, range(25)), Subset(own, range(25, 30)))), COLOUR, LABELS, Own.classes, (25, 5))
    pair = (COLOUR[:25], LABELS[:25]), (COLOUR[25:], LABELS[25:])
    check(load(pair), COLOUR, LABELS, lengths=(25, 5))
    check(load((COLOUR[:25], COLOUR[25:])), COLOUR, None, lengths=(25, 5))
    check(load({"x_train": GREY[:25], "x_test": GREY[25:]}), GREY, None, lengths=(25, 5))
    check(
        load({"train": Subset(own, range(25)), "test": Subset(own, range(25, 30))}),
        COLOUR,
        LABELS,
        Own.classes,
        (25, 5),
    )
    train, held_out = load(pair)
    assert load((train, held_out)) == (train, held_out)
    check(load(Dataset("mine", train.x, train.labels, train.classes)), COLOUR[:25], LABELS[:25])
    points = np.random.default_rng(0).normal(size=(30, 2))
    train, held_out = load((points, LABELS))
    assert train.x.dtype == torch.float32 and (train.x.shape, len(held_out)) == ((27, 2), 3)


def test_pil_pictures_of_all_kinds(paint, tmp_path):
    pictures = [Image.new("L", (8, 9), 7), Image.new("RGB", (8, 9), (1, 2, 3)), Image.new("RGBA", (8, 9), (0, 0, 0, 0))]
    pictures += [Image.new("1", (8, 9), 1), Image.new("P", (8, 9), 0)]
    parts = load([*pictures, *pictures])
    found = {tuple(x[:, 0, 0].tolist()) for x in torch.cat([part.x for part in parts])}
    assert found == {(7, 7, 7), (1, 2, 3), (255, 255, 255), (0, 0, 0)}
    assert load([pictures[0], pictures[3]] * 5)[0].shape == (1, 9, 8)  # grey stays grey
    deep = [Image.fromarray(np.full((9, 8), value, np.uint16)) for value in (0, 4095)] * 5
    assert load(deep, white=4095)[0].x.unique().tolist() == [0, 255]
    refused(
        [*pictures, Image.new("L", (9, 9))],
        "example 5 of arrays is .* 9 x 9.*: choose one size",
    )
    assert load([*pictures, Image.new("L", (19, 12))], size=5)[0].shape == (3, 5, 5)
    for name in ("cat", "dog"):
        for i in range(5):
            paint(f"f/{name}/{i}.png", (i, 0, 0), (20, 10))
    folder = ImageFolder(tmp_path / "f")
    assert load(folder, size=8)[0].shape == (3, 8, 8) and load(folder, size=8)[0].classes == ("cat", "dog")
    assert load(ImageFolder(tmp_path / "f", target_transform=lambda y: 1 - y), size=8)[0].classes == ("0", "1")
    (tmp_path / "f" / "cat" / "0.png").write_bytes(b"no")
    refused(folder, r"example 0 of ImageFolder cannot be read \(UnidentifiedImageError.*skip_corrupt=True", size=8)
    assert sum(map(len, load(folder, size=8, skip_corrupt=True))) == 9


class Endless(IterableDataset):
    def __iter__(self):
        return iter(as_pil())


def test_objects_that_are_refused():
    own = Own(np.asarray)
    refused(DataLoader(own), "load the data set in it, its .dataset")
    for given in (None, 3, Endless(), (own, own, own), object()):
        refused(given, "cannot load a (NoneType|int|Endless|tuple|object): give a name, a path, arrays")
    refused([(1, 2), (3, 4)] * 5, "example 0 of arrays is .*: make each a picture, or a picture and its label")
    refused([(COLOUR[0], 1, 2)] * 5, "is 3 values: make each a picture")
    refused([(COLOUR[0], 1), (COLOUR[0], None)], "1 of 2 examples of arrays have no label")
    refused((COLOUR, LABELS[:3]), "30 examples and 3 labels")
    assert load(FakeData(20, (3, 8, 8)))[0].shape == (3, 8, 8)
