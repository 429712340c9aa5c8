"""Files of arrays and archives of pictures, as the libraries write them."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from on_disk import COLOUR, GREY, LABELS, check, idx, refused
from PIL import Image

from alikit import load
from alikit.data.sources import canonical, is_resized

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
    (tmp_path / "parts" / "._x_train.npy").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
    check(load(tmp_path / "parts"), GREY, LABELS, lengths=(25, 5))
    check(load(tmp_path / "parts" / "x_train.npy"), GREY[:25], None, lengths=None)
    (tmp_path / "kmnist").mkdir()
    for name, rows in (("train", slice(25)), ("test", slice(25, 30))):
        np.savez(tmp_path / "kmnist" / f"kmnist-{name}-imgs.npz", GREY[rows])
        np.savez(tmp_path / "kmnist" / f"kmnist-{name}-labels.npz", LABELS[rows])
    check(load(tmp_path / "kmnist"), GREY, LABELS, lengths=(25, 5))
    (tmp_path / "pcam").mkdir()
    for name, rows in (("train", slice(25)), ("test", slice(25, 30))):
        for key, array in (("x", COLOUR), ("y", LABELS.reshape(-1, 1, 1, 1))):
            with h5py.File(tmp_path / "pcam" / f"camelyonpatch_level_2_split_{name}_{key}.h5", "w") as out:
                out[key] = array[rows]
    check(load(tmp_path / "pcam"), COLOUR, LABELS, lengths=(25, 5))
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
    refused(of(x_train=GREY, y=LABELS), "has x_train, y: call the arrays that you mean x and y, or x_train, y_train")
    check(load(of(x=GREY, latents=LABELS)), GREY, None)
    assert "a.npz: not read are latents" in caplog.text
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


def write_mnist(folder: Path, pattern: str, pictures: np.ndarray, labels: np.ndarray, test: str = "t10k") -> None:
    for split, rows in (("train", slice(25)), (test, slice(25, 30))):
        idx(folder / pattern.format(split, "images-idx3"), pictures[rows])
        idx(folder / pattern.format(split, "labels-idx1"), labels[rows])


@pytest.mark.parametrize(
    "pattern", ["{}-{}-ubyte", "{}-{}-ubyte.gz", "MNIST/raw/{}-{}-ubyte", "{0}-images.idx3-ubyte", "odd-{}-{}-ubyte.gz"]
)
def test_mnist_files(tmp_path, pattern):
    if "images" in pattern:  # as on Kaggle
        for split, rows in (("train", slice(25)), ("t10k", slice(25, 30))):
            idx(tmp_path / f"{split}-images.idx3-ubyte", GREY[rows])
            idx(tmp_path / f"{split}-labels.idx1-ubyte", LABELS[rows])
    else:
        write_mnist(tmp_path, pattern, GREY, LABELS)
    check(load(tmp_path), GREY, LABELS, lengths=(25, 5))
    file = next(file for file in tmp_path.rglob("*train*") if file.is_file())
    check(load(file), GREY, LABELS, lengths=(25, 5))
    file.write_bytes(file.read_bytes()[:-9])
    refused(tmp_path, "ubyte.* is damaged or not what it should be: fetch it again")
    file.unlink()
    refused(tmp_path, "only a part called test|no file of labels beside it")


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


def write_parquet(file: Path, rows: slice, image="image", label="label", unknown=False) -> None:
    """As `datasets` writes it, groups of a few rows each."""
    cells = [{"bytes": encoded(pixels), "path": None} for pixels in COLOUR[rows]]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {image: {"_type": "Image"}, label: {"names": ["cat", "dog", "newt"], "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([(image, kind), (label, pa.int64())], metadata=about)
    labels = [-1] * len(cells) if unknown else LABELS[rows].astype(np.int64)
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


def test_plain_and_unlabelled_parquet(tmp_path, caplog):
    write_parquet(tmp_path / "d" / "train-0.parquet", slice(25))
    write_parquet(tmp_path / "d" / "test-0.parquet", slice(25, 30), unknown=True)  # as `datasets` keeps it back
    check(load(tmp_path / "d"), COLOUR[:25], LABELS[:25], ("cat", "dog", "newt"))
    assert "held-out part of file:d has no labels, so a tenth of the training part is held out" in caplog.text
    pq.write_table(
        pa.table({"image": [*map(encoded, COLOUR)], "target": [f"c{y}" for y in LABELS]}), tmp_path / "a.parquet"
    )
    check(load(tmp_path / "a.parquet"), COLOUR, LABELS, ("c0", "c1", "c2"))
    pq.write_table(pa.table({"image": [*map(encoded, COLOUR)], "species": LABELS}), tmp_path / "a.parquet")
    check(load(tmp_path / "a.parquet"), COLOUR, None)
    assert "a.parquet has no labels: of its columns (species) call the one that you mean label" in caplog.text
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "must have one column of pictures, and has none, but text, label")
    pq.write_table(pa.table({"image": [*map(encoded, COLOUR)], "label": [0] * 29 + [None]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "1 of 30 examples have no label")


@pytest.mark.parametrize(("module", "file"), [("h5py", "a.h5"), ("pyarrow.parquet", "a.parquet")])
def test_an_extra_that_is_missing_is_named(tmp_path, monkeypatch, module, file):
    (tmp_path / file).write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    refused(tmp_path / file, r"pip install alikit\[(hdf5|parquet)\]")
