"""The published data sets, small, on the disk in their real formats, with the checksums of what is there."""

import pickle
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from on_disk import ATTRIBUTES, WNIDS, md5, noise, ramp
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from alikit.data import published


@pytest.fixture
def cifar(tmp_path, monkeypatch) -> Path:
    """Five batches of 20 and one for testing; batch b holds noise(b, 20, 3, 32, 32), picture i is of class i % 10."""
    root = tmp_path / "data"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [f"data_batch_{b}" for b in range(1, 6)] + ["test_batch"]
    for b, name in enumerate(names, start=1):
        batch = {
            "batch_label": name,
            "labels": [i % 10 for i in range(20)],
            "data": noise(b, 20, 3, 32, 32).reshape(20, 3072),
            "filenames": [f"{i}.png" for i in range(20)],
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {"label_names": [f"class {i}" for i in range(10)], "num_cases_per_batch": 20, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    listed = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[5:])
    known = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", known)
    return root


@pytest.fixture
def house_number_files(tmp_path, monkeypatch) -> Path:
    """Twelve a split, noise(s, 32, 32, 3, 12) in SVHN's order (row, column, colour, picture), labels 1 to 10."""
    root = tmp_path / "data"
    root.mkdir()
    known = {}
    for s, split in enumerate(("train", "test", "extra")):
        file = root / f"{split}_32x32.mat"
        labels = np.array([[i % 10 + 1] for i in range(12)], dtype=np.uint8)
        savemat(file, {"X": noise(s, 32, 32, 3, 12), "y": labels}, do_compression=True)
        known[split] = [f"http://svhn.invalid/{file.name}", file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return root


@pytest.fixture
def faces(tmp_path, monkeypatch) -> Path:
    """Ten pictures: 1 to 6 train, 7 and 8 valid, 9 and 10 test. Picture i has attribute j where (i + j) % 3 == 0."""
    root = tmp_path / "data"
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(1, 11)]
    for i, name in enumerate(names, start=1):
        ramp(20 * i).save(folder / "img_align_celeba" / name, quality=98, subsampling=0)
    marks = [" ".join(f"{1 if (i + j) % 3 == 0 else -1:2}" for j in range(40)) for i in range(1, 11)]
    corners = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    tables = {  # blanks as in the published files: one after the last name, two before a 1
        "list_attr_celeba.txt": ["10", " ".join(ATTRIBUTES) + " ", *map(" ".join, zip(names, marks, strict=True))],
        "identity_CelebA.txt": [f"{name} {100 + i}" for i, name in enumerate(names)],
        "list_bbox_celeba.txt": ["10", "image_id x_1 y_1 width height", *(f"{name}  1   2 30  40" for name in names)],
        "list_landmarks_align_celeba.txt": ["10", corners, *(f"{name} " + "  5" * 10 for name in names)],
        "list_eval_partition.txt": [f"{name} {0 if i < 6 else 1 if i < 8 else 2}" for i, name in enumerate(names)],
    }
    for name, lines in tables.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    archive = Path(shutil.make_archive(tmp_path / "img_align_celeba", "zip", folder, "img_align_celeba"))
    listed = [("key of the pictures", md5(archive), "img_align_celeba.zip")]
    listed += [(f"key of {name}", md5(folder / name), name) for name in tables]
    monkeypatch.setattr(datasets.CelebA, "file_list", listed)
    return root


@pytest.fixture
def tiny(tmp_path) -> Path:
    """Three classes, four training and two validation pictures each; the red of a picture is 50 times its label."""
    root = tmp_path / "data"
    folder = root / "tiny-imagenet-200"
    label_of = {wnid: label for label, wnid in enumerate(sorted(WNIDS))}
    for wnid, label in label_of.items():
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (64, 64), (50 * label, 10 * i, 200)).save(images / f"{wnid}_{i}.JPEG", quality=98)
        boxes = "".join(f"{wnid}_{i}.JPEG\t0\t10\t63\t58\n" for i in range(4))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "test" / "images").mkdir(parents=True)
    lines = []
    for i, wnid in enumerate([*WNIDS, *WNIDS]):
        picture = Image.new("RGB", (64, 64), (50 * label_of[wnid], 0, 0))
        picture.save(folder / "val" / "images" / f"val_{i}.JPEG", quality=98)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    Image.new("RGB", (64, 64)).save(folder / "test" / "images" / "test_0.JPEG")
    (folder / "wnids.txt").write_text("\n".join(WNIDS))
    words = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn04067472\treel\n"
    (folder / "words.txt").write_text(words)
    return root


class Server:
    """A server on this machine: `files` are what it sends by path, `half` the paths it breaks off, `during` a hook."""

    def __init__(self):
        self.files, self.half, self.during, self.asked = {}, set(), lambda: None, []
        self.quiet = threading.Event()  # until then, a hook may keep silent
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                if self.path not in server.files:
                    return self.send_error(404)
                body = server.files[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                server.during()
                if self.path not in server.half:
                    self.wfile.write(body[len(body) // 2 :])

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # torchvision hangs up on the request by which it looks for redirections

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def offer(self, name: str, body: bytes) -> str:
        """The address under which `body` can be fetched from now on."""
        self.files[f"/{name}"] = body
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    def close(self):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def tiny_zip(tiny, tmp_path, server, monkeypatch) -> Path:
    """An empty root; the archive of `tiny` is on the server."""
    archive = Path(shutil.make_archive(tmp_path / "tiny-imagenet-200", "zip", tiny, "tiny-imagenet-200"))
    shutil.rmtree(tiny)
    monkeypatch.setattr(published, "TINY_URL", server.offer(archive.name, archive.read_bytes()))
    monkeypatch.setattr(published, "TINY_MD5", md5(archive))
    return tiny
