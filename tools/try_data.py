"""Each form of data, small and in its real layout: 20 steps of ALI on it, and four samples. python tools/try_data.py"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
from pandas import DataFrame
from PIL import Image
from torchvision.datasets import FakeData
from webdataset import ShardWriter

import alikit

X, Y = np.random.default_rng(0).integers(0, 256, (150, 28, 28), np.uint8), np.arange(150, dtype=np.uint8) % 10
PNG = {f"{i:03}.png": Image.fromarray(x)._repr_png_() for i, x in enumerate(X)}
NAMES, IMAGES = [*PNG], [{"bytes": content, "path": None} for content in PNG.values()]
EXAMPLES = [{"__key__": name[:3], "png": PNG[name], "cls": int(y)} for name, y in zip(NAMES, Y, strict=True)]
NPZ = {"train_images": X, "train_labels": Y[:, None], "test_images": X[:50], "test_labels": Y[:50, None]}
IDX = {"train-images-idx3": X, "train-labels-idx1": Y, "t10k-images-idx3": X[:50], "t10k-labels-idx1": Y[:50]}
IDX = {f"{name}-ubyte": np.array([2048 + a.ndim, *a.shape], ">u4").tobytes() + a.tobytes() for name, a in IDX.items()}
HF, CELEBA = {"file_name": NAMES, "label": Y}, {"image_id": NAMES, "Male": Y % 2 * 2 - 1.0, "Young": Y // 5 * 2 - 1.0}


def write(at: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
    return at


def png(at: Path, place: str) -> Path:
    return write(at, {f"{place.format(e['cls'])}/{e['__key__']}.png": e["png"] for e in EXAMPLES})


FORMS = {  # each makes its files, and returns what is loaded, if that is not the folder
    "class folders": lambda at: png(at, "{}"),
    "Training, Testing": lambda at: png(png(at, "Training/{}"), "Testing/{}"),
    "labels.csv": lambda at: DataFrame({"id": NAMES, "breed": Y}).to_csv(png(at, ".") / "labels.csv"),
    "metadata.jsonl": lambda at: DataFrame(HF).to_json(png(at, ".") / "metadata.jsonl", orient="records", lines=True),
    "Kaggle's CelebA": lambda at: DataFrame(CELEBA).to_csv(png(at, "a/a") / "list_attr_celeba.csv", index=False),
    "MedMNIST's npz": lambda at: np.savez(at / "a.npz", **NPZ),
    "MNIST's files": lambda at: write(at / "raw", IDX),
    "torchvision:MNIST": lambda at: write(at / "MNIST/raw", IDX) and f"torchvision:MNIST:{at}",
    "WebDataset": lambda at: [*map((out := ShardWriter(f"{at}/%06d.tar", verbose=0)).write, EXAMPLES)] and out.close(),
    "parquet": lambda at: DataFrame({"image": IMAGES, "label": Y}).to_parquet(at / "train-00000-of-00001.parquet"),
    "HDF5": lambda at: h5py.File(at / "a.h5", "w").update(x=X, y=Y),
    "arrays": lambda at: (X, Y),
    "torchvision's": lambda at: FakeData(150, (3, 28, 28)),
}
for name, make in FORMS.items():
    with TemporaryDirectory() as at:
        train, held_out = alikit.load(make(Path(at)) or at)
        recipe = replace(alikit.RECIPES["digits"], batch_size=20)
        model = recipe.build(train.shape, train.mean())
        recipe.trainer(model, train).run(20)
        print(f"{name:<20}{len(train):>4} + {len(held_out)}, samples {tuple(model.sample(4).shape)}", flush=True)
