"""Makes each form of data small, in its real layout, trains ALI on it for 20 steps and samples: python tools/try_data.py"""

import io
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pandas
from PIL import Image
from torchvision.datasets import FakeData
from webdataset import ShardWriter

import alikit

X, Y = np.random.default_rng(0).integers(0, 256, (150, 28, 28), np.uint8), np.arange(150) % 10
NAMES, BYTES = [f"{i:03}.png" for i in range(150)], [io.BytesIO() for _ in X]
for x, file in zip(X, BYTES, strict=True):
    Image.fromarray(x).save(file, "png")
ARRAYS = {"train_images": X, "train_labels": Y[:, None], "test_images": X[:50], "test_labels": Y[:50, None]}
IDX = {
    "train-images-idx3-ubyte": X,
    "train-labels-idx1-ubyte": Y,
    "t10k-images-idx3-ubyte": X,
    "t10k-labels-idx1-ubyte": Y,
}


def folder(at: Path, *folders: str) -> None:
    for below in folders:
        for name, y, file in zip(NAMES, Y, BYTES, strict=True):
            place = at / below.format(y=y) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.getvalue())


def table(at: Path, name: str, pictures: str, **columns: object) -> None:
    folder(at, pictures)
    rows = pandas.DataFrame(columns)
    rows.to_json(at / name, orient="records", lines=True) if name.endswith("l") else rows.to_csv(at / name, index=False)


def celeba(at: Path) -> None:
    signs = {name: np.where(Y % n, 1, -1) for n, name in ((2, "Male"), (3, "Smiling"))}
    table(at, "list_attr_celeba.csv", "img_align_celeba/img_align_celeba", image_id=NAMES, **signs)
    table(at, "list_eval_partition.csv", "img_align_celeba/img_align_celeba", image_id=NAMES, partition=Y // 7)


def idx(at: Path) -> None:
    at.mkdir(parents=True)
    for name, a in IDX.items():
        (at / name).write_bytes(np.array([2048 + a.ndim, *a.shape], ">u4").tobytes() + a.astype(np.uint8).tobytes())


def shards(at: Path) -> None:
    with ShardWriter(f"{at}/train-%06d.tar", maxcount=100, verbose=0) as writer:
        for name, y, file in zip(NAMES, Y, BYTES, strict=True):
            writer.write({"__key__": name[:3], "png": file.getvalue(), "cls": int(y)})


def hdf5(at: Path) -> None:
    with h5py.File(at / "a.h5", "w") as file:
        file["x"], file["y"] = X, Y


def parquet(at: Path) -> None:
    images = [{"bytes": file.getvalue(), "path": name} for name, file in zip(NAMES, BYTES, strict=True)]
    pandas.DataFrame({"image": images, "label": Y}).to_parquet(at / "train-00000-of-00001.parquet")


FORMS = {  # what makes the files of each, and the source that is loaded, where it is not the folder itself
    "class folders": (lambda at: folder(at, "{y}"), ""),
    "Training and Testing": (lambda at: folder(at, "Training/{y}", "Testing/{y}"), ""),
    "labels.csv": (lambda at: table(at, "labels.csv", "", id=NAMES, breed=[f"dog {y}" for y in Y]), ""),
    "metadata.jsonl": (lambda at: table(at, "metadata.jsonl", "", file_name=NAMES, label=Y), ""),
    "CelebA of Kaggle": (celeba, ""),
    "MedMNIST's npz": (lambda at: np.savez(at / "a.npz", **ARRAYS), "/a.npz"),
    "npy": (lambda at: np.save(at / "a.npy", X), "/a.npy"),
    "MNIST's files": (lambda at: idx(at / "raw"), ""),
    "torchvision:MNIST": (lambda at: idx(at / "MNIST/raw"), "torchvision:MNIST:{at}"),
    "WebDataset": (shards, ""),
    "parquet": (parquet, ""),
    "HDF5": (hdf5, "/a.h5"),
    "arrays": (lambda at: None, (X, Y)),
    "torchvision's object": (lambda at: None, FakeData(150, (3, 28, 28))),
}


def try_one(name: str, at: Path) -> tuple[int, ...]:
    """Returns the shape of four samples."""
    make, source = FORMS[name]
    make(at)
    if isinstance(source, str):
        source = source.format(at=at) if ":" in source else f"{at}{source}"
    train, _ = alikit.load(source)
    recipe = replace(alikit.RECIPES["digits"], batch_size=20)
    model = recipe.build(train.shape, train.mean())
    recipe.trainer(model, train).run(20)
    return tuple(model.sample(4).shape)


if __name__ == "__main__":
    for name in FORMS:
        with TemporaryDirectory() as at:
            print(f"{name:<22}{try_one(name, Path(at))}", flush=True)
