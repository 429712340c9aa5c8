"""Pictures of more than 8 bits, of one channel, and of several pages."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alikit.data import image_folder, images, load
from alikit.errors import AlikitError


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "pets").mkdir()
    return tmp_path / "pets"


def ramp(*values: float, dtype=np.uint16) -> np.ndarray:
    """8 x 8; the values stand in the first row, and again and again below."""
    return np.resize(np.array(values, dtype), (8, 8))


def png16(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits a channel, of (H, W, C); colour type 2 is RGB, 4 grey with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *values.shape[1::-1], 16, colour, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("white", [255, 1023, 4095, 16383, 65535])
def test_the_range_is_that_of_the_brightest_picture(root, name, white):
    """Found over the whole folder: the first picture does not reach it. 8-bit pictures keep their values."""
    Image.fromarray(ramp(0, white // 5)).save(root / name)
    Image.fromarray(ramp(0, white // 2, white)).save(root / f"b{name}")
    Image.fromarray(ramp(200, dtype=np.uint8)).save(root / "c.png")
    x = image_folder(root).x
    assert x.shape == (3, 1, 8, 8) and x[0, 0, 0, :2].tolist() == [0, 51] and (x[2] == 200).all()
    assert x[1, 0, 0, :3].tolist() in ([0, 127, 255], [0, 128, 255])


@pytest.mark.parametrize(("white", "given"), [(1.0, None), (255.0, None), (4095.0, None), (7.5, 7.5)])
def test_floats_and_32_bits(root, white, given):
    Image.fromarray(ramp(0, 0.2 * white, white, dtype=np.float32)).save(root / "a.tif")
    if given is None and white > 1:
        Image.fromarray(ramp(0, 0.2 * white, white, dtype=np.int32)).save(root / "b.tif")
    for picture in image_folder(root, white=given).x:
        assert picture[0, 0, :3].tolist() == [0, 51, 255]


def test_white_can_be_given_and_is_kept_apart(root):
    Image.fromarray(ramp(0, 819, 1000)).save(root / "a.png")
    Image.fromarray(ramp(0, 8)).save(root / "b.png")
    for white, values in ((4095, [0, 51, 62]), (65535, [0, 3, 4]), (4095.0, [0, 51, 62])):
        assert image_folder(root, white=white).x[0, 0, 0, :3].tolist() == values
        assert load(f"folder:{root}", size=8, white=white)[0].shape == (1, 8, 8)


# A TIFF of 16 bits with a sign, which Pillow does not write: its tags, one of each in every row, then two values.
TAGS = np.array([[256, 2], [257, 1], [258, 16], [259, 1], [262, 1], [273, 122], [277, 1], [279, 4], [339, 2]])
SIGNED = b"II*\0\x08\0\0\0\x09\0" + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in TAGS.tolist())
SIGNED += bytes(4) + struct.pack("<hh", -5, 255)
NEAR = r"pictures in .*pets go up to {}: say what is white, as --white {} \(white={}\)"
UNKNOWN = [
    (ramp(0, 3000), None, NEAR.format("3,000", 4095, 4095)),
    (ramp(0, 200), None, NEAR.format("200", 255, 255)),
    (ramp(0, 70_000, dtype=np.int32), None, "32-bit " + NEAR.format("70,000", 70000, 70000)),
    (ramp(0, 0.5, dtype=np.float32), None, "floating-point " + NEAR.format("0.5", 1, 1)),
    (ramp(0, 5000), 4095, r"a\.tif goes up to 5,000, and white is 4,095: say what is white, as --white N"),
    (ramp(0, -2, 1, dtype=np.float32), None, r"a\.tif has values below 0, down to -2: shift them"),
    (SIGNED, 255, r"a\.tif has values below 0, down to -5"),
    (ramp(0, np.nan, 1, dtype=np.float32), None, r"a\.tif has values that are not finite"),
    (ramp(0, np.inf, dtype=np.float32), 1.0, r"a\.tif has values that are not finite"),
    *((ramp(0), white, "white is .*: give the brightest value") for white in (0, -1, np.nan, np.inf)),
]


@pytest.mark.parametrize(("content", "white", "says"), UNKNOWN)
def test_a_range_that_is_not_known_is_asked_for(root, content, white, says):
    if isinstance(content, bytes):
        (root / "a.tif").write_bytes(content)
    else:
        Image.fromarray(content).save(root / "a.tif")
    with pytest.raises(AlikitError, match=says) as raised:
        image_folder(root, white=white, skip_corrupt=True)
    assert "\n" not in str(raised.value) and not [*root.rglob("*.partial")]


def test_files_that_say_their_range(root):
    """A PGM says what is white, and Pillow scales by that; a TIFF that 0 is white, which it minds only of 8 bits."""
    (root / "a.pgm").write_bytes(b"P5 8 8 4095\n" + ramp(0, 819, 1000).astype(">u2").tobytes())
    (root / "b.pgm").write_bytes(b"P2 2 4 1000\n" + b"0 200 " * 4)
    assert [x.tolist() for x in image_folder(root, size=8).x[:, 0, 0, 0]] == [0, 0]
    (root / "b.pgm").unlink()
    for white in (None, 65535):
        assert image_folder(root, white=white).x[0, 0, 0, :3].tolist() == [0, 51, 62]
    (root / "a.pgm").write_bytes(b"P5 8 8 65535\n" + ramp(0, 819, 1000).astype(">u2").tobytes())
    assert [image_folder(root, white=white).x[0, 0, 0, 1] for white in (None, 4095)] == [3, 51]
    Image.fromarray(ramp(0, 1000, 65535)).save(root / "a.tif", tiffinfo={262: 0})
    (root / "a.pgm").unlink()
    assert Image.open(root / "a.tif").tag_v2[262] == 0
    assert image_folder(root).x[0, 0, 0, :3].tolist() == [255, 251, 0]


def test_16_bit_colours_keep_their_upper_8_bits(root):
    """So 12 bits in 16 would be nearly black: to be converted first."""
    grey = ramp(0, 256 * 40, 65535)[..., None]
    (root / "a.png").write_bytes(png16(grey.repeat(3, 2), 2))
    assert image_folder(root).x[0, :, 0, :3].tolist() == [[0, 40, 255]] * 3
    (root / "b.png").write_bytes(png16(ramp(0, 4095)[..., None].repeat(3, 2), 2))
    assert image_folder(root).x[1].max() == 15, "beside one that reaches the end"
    (root / "a.png").unlink()
    says = "16-bit colour pictures in .* go up to about 3,855 of 65,535, .*: convert them to 8 bits first"
    for white in (None, 4095):
        with pytest.raises(AlikitError, match=says):
            image_folder(root, white=white)
    assert image_folder(root, white=65535).x.max() == 15
    (root / "b.png").write_bytes(png16(np.concatenate([grey, np.full_like(grey, 65535)], 2), 4))  # grey with alpha
    assert image_folder(root).x[0, :, 0, :3].tolist() == [[0, 40, 255]]


def test_a_picture_that_changes_between_two_looks_is_noticed(root, monkeypatch):
    Image.fromarray(ramp(0, 4095)).save(root / "a.png")
    decode, calls = images.decode, []
    monkeypatch.setattr(images, "decode", lambda *how: calls.append(how) or (decode(*how) if len(calls) < 2 else None))
    with pytest.raises(AlikitError, match=r"a\.png changed while it was read: load it again"):
        image_folder(root)


# Channels.


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_stays_grey_until_a_colour_comes(root, first):
    modes = {"L": 7, "1": 255, "LA": (90, 255)}
    for mode, shade in modes.items():
        Image.new(mode, (5, 3), shade).save(root / f"m-{mode}.png")
    data = image_folder(root)
    assert data.x.shape == (3, 1, 3, 5) and data.x[:, 0, 0, 0].tolist() == [255, 7, 90]  # in the order of their names
    data = image_folder(root, size=4)
    assert data.x.shape == (3, 1, 4, 4)
    Image.fromarray(np.resize(np.array([1, 2, 3], np.uint8), (3, 5))).save(root / "m-0.png")
    Image.new("RGB", (5, 3), (1, 2, 3)).save(root / ("z.png" if first == "grey" else "a.png"))
    for _ in range(2):
        x = image_folder(root).x
        greys, colour = (x[:4], x[4]) if first == "grey" else (x[1:], x[0])
        assert (colour == torch.tensor([1, 2, 3])[:, None, None]).all() and (greys == greys[:, :1]).all()
        assert greys[0, 0, 0].tolist() == [1, 2, 3, 1, 2] and greys[1:, 0, 0, 0].tolist() == [255, 7, 90]


# Pages.


def test_further_pages_are_counted_and_said(root, caplog):
    """Also when they come from the cache. The second picture in a telephone's JPEG is no page."""
    first, *others = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.tif", "b.gif", "c.webp", "d.png"):
        first.save(root / name, save_all=True, append_images=others)
    first.save(root / "e.jpg", "MPO", save_all=True, append_images=others)
    first.save(root / "f.tif")
    for _ in range(2):
        x = image_folder(root).x
        assert len(x) == 6 and (x[:, 0] > 250).all() and (x[:, 1:] < 5).all()
        assert caplog.messages == [f"4 files in {root} have 8 further pages or frames, which are left out"]
        caplog.clear()


def test_floats_to_1_beside_whole_numbers_are_not_black(tmp_path):
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(AlikitError, match=r"b.tif goes up to 0.5, and white is 4,095: read it without the others"):
        image_folder(tmp_path, white=4095)


def test_a_jpeg_2000_that_leaves_its_upper_bits_empty_is_not_black(tmp_path):
    for name, top in (("a", 4095), ("b", 3000)):
        Image.fromarray(np.full((32, 32), top, np.uint16)).save(tmp_path / f"{name}.jp2", irreversible=False)
    assert image_folder(tmp_path).x[:, 0, 0, 0].tolist() == [255, 187]
