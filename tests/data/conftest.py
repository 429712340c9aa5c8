"""The published data sets, small, on the disk in their real formats, with the checksums of what is there."""

import io
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError

import numpy as np
import pytest
from on_disk import ATTRIBUTES, WNIDS, md5, noise
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from alikit.data import published


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """Five batches of 20 and one for testing; batch b holds noise(b, 20, 3, 32, 32), picture i is of class i % 10."""
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    files = {"batches.meta": {"label_names": [f"class {i}" for i in range(10)]}}
    for b, name in enumerate([*(f"data_batch_{b}" for b in range(1, 6)), "test_batch"], start=1):
        files[name] = {"labels": [i % 10 for i in range(20)], "data": noise(b, 20, 3, 32, 32).reshape(20, 3072)}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (meta, of_meta), *listed = [[name, md5(folder / name)] for name in files]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": of_meta})
    return folder.parent


@pytest.fixture
def house_number_files(tmp_path, monkeypatch) -> Path:
    """Twelve a split, noise(s, 32, 32, 3, 12) in SVHN's order (row, column, colour, picture), labels 1 to 10."""
    root, known = tmp_path / "data", {}
    root.mkdir()
    for s, split in enumerate(("train", "test", "extra")):
        file = root / f"{split}_32x32.mat"
        labels = np.array([[i % 10 + 1] for i in range(12)], dtype=np.uint8)
        savemat(file, {"X": noise(s, 32, 32, 3, 12), "y": labels}, do_compression=True)
        known[split] = [f"http://svhn.invalid/{file.name}", file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return root


@pytest.fixture
def faces(tmp_path, monkeypatch) -> Path:
    """Ten pictures: 1 to 6 train, 7 and 8 valid, 9 and 10 test. Picture i has attribute j where (i + j) % 3 == 0. In
    each green grows with the row, blue with the column."""
    root = tmp_path / "data"
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names, (rows, columns) = [f"{i:06}.jpg" for i in range(1, 11)], np.mgrid[:218, :178]
    for i, name in enumerate(names, start=1):
        ramp = Image.fromarray(np.stack([np.full_like(rows, 20 * i), rows, columns], axis=2).astype(np.uint8))
        ramp.save(folder / "img_align_celeba" / name, quality=98, subsampling=0)
    marks = [" ".join(f"{1 if (i + j) % 3 == 0 else -1:2}" for j in range(40)) for i in range(1, 11)]
    tables = {  # blanks as in the published files: one after the last name, two before a 1
        "list_attr_celeba.txt": ["10", " ".join(ATTRIBUTES) + " ", *map(" ".join, zip(names, marks, strict=True))],
        "identity_CelebA.txt": [f"{name} {100 + i}" for i, name in enumerate(names)],
        "list_bbox_celeba.txt": ["10", "image_id x_1 y_1 width height", *(f"{name}  1   2 30  40" for name in names)],
        "list_landmarks_align_celeba.txt": ["10", "x y " * 5, *(f"{name} " + "  5" * 10 for name in names)],
        "list_eval_partition.txt": [f"{name} {0 if i < 6 else 1 if i < 8 else 2}" for i, name in enumerate(names)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    archive = Path(shutil.make_archive(tmp_path / "img_align_celeba", "zip", folder, "img_align_celeba"))
    listed = [("key of the pictures", md5(archive), archive.name)]
    listed += [(f"key of {name}", md5(folder / name), name) for name in tables]
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
    return root


@pytest.fixture
def tiny(tmp_path, paint) -> Path:
    """Three classes, four training and two validation pictures each; the red of a picture is 50 times its label."""
    lines = []
    for label, wnid in enumerate(sorted(WNIDS)):
        for i in range(4):
            paint(f"data/tiny-imagenet-200/train/{wnid}/images/{wnid}_{i}.JPEG", (50 * label, 10 * i, 200), (64, 64))
    for i, wnid in enumerate([*WNIDS, *WNIDS]):
        paint(f"data/tiny-imagenet-200/val/images/val_{i}.JPEG", (50 * sorted(WNIDS).index(wnid), 0, 0), (64, 64))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    folder = tmp_path / "data" / "tiny-imagenet-200"
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    words = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn04067472\treel\n"
    (folder / "words.txt").write_text(words)
    return folder.parent


@pytest.fixture
def web(monkeypatch):
    """In the place of the network: what can be fetched, by its address, and what is called while something is."""
    web = SimpleNamespace(files={}, during=lambda: None)

    def urlopen(request):
        if request.full_url not in web.files:
            raise HTTPError(request.full_url, 404, "Not Found", {}, None)
        response = type("Response", (io.BytesIO,), {})(web.files[request.full_url])  # bytes that may have attributes
        response.url, response.length, read = request.full_url, len(response.getvalue()), response.read
        response.read = lambda size=-1: web.during() or read(size)
        return response

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return web


@pytest.fixture
def tiny_zip(tiny, tmp_path, web, monkeypatch) -> Path:
    """An empty root; the archive of `tiny` can be fetched."""
    archive = Path(shutil.make_archive(tmp_path / "tiny-imagenet-200", "zip", tiny, "tiny-imagenet-200"))
    shutil.rmtree(tiny)
    web.files[published.TINY_URL] = archive.read_bytes()
    monkeypatch.setattr(published, "TINY_MD5", md5(archive))
    return tiny


@pytest.fixture
def unchecked(monkeypatch):
    """The checksums of the published files are not those of ours; an empty file stands for a damaged one."""
    for name in ("cifar", "fer2013", "flowers102", "lfw", "omniglot", "places365", "semeion", "stl10", "svhn"):
        there = lambda file, md5=None: os.path.isfile(file) and os.path.getsize(file) > 0  # noqa: E731
        monkeypatch.setattr(getattr(datasets, name), "check_integrity", there)
