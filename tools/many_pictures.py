"""Draw a folder of very many small pictures, to try what does not fit into memory.

    python tools/many_pictures.py FOLDER                 200,000 pictures of 32x32 in ten classes, 0.7 GB, some minutes
    python tools/many_pictures.py FOLDER --number 1000000
    alikit train cifar10-small --data folder:FOLDER --steps 20 --batch 64

FOLDER/<class>/<number>.png is noise around the colour of its class. A picture depends on its number, its side and how
many classes there are, so a smaller folder is the beginning of a larger one.
"""

import argparse
import colorsys
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

AT_ONCE = 1000  # pictures drawn from one generator: seeding it takes longer than drawing one
NOISE = 80  # levels between the darkest and the brightest value of a channel, of 256


def draw(number: int, side: int, classes: int) -> np.ndarray:
    """Pictures `number` * AT_ONCE and after, (AT_ONCE, side, side, 3) uint8."""
    noise = np.random.default_rng(number).integers(0, NOISE, (AT_ONCE, side, side, 3), dtype=np.uint8)
    hues = (np.arange(AT_ONCE) + number * AT_ONCE) % classes / classes
    colours = np.array([colorsys.hsv_to_rgb(hue, 0.7, 1) for hue in hues]) * (256 - NOISE)
    return noise + colours.astype(np.uint8)[:, None, None]


def write(folder: Path, total: int, side: int, classes: int) -> None:
    """Fills the folder with `total` pictures."""
    places = [folder / f"class-{label:04d}" for label in range(classes)]
    for place in places:
        place.mkdir(parents=True)

    def some(number: int) -> int:
        begin = number * AT_ONCE
        pictures = draw(number, side, classes)[: total - begin]
        for at, picture in enumerate(pictures, start=begin):
            Image.fromarray(picture).save(places[at % classes] / f"{at:08d}.png", compress_level=1)
        return len(pictures)

    with tqdm(total=total, unit=" pictures") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(some, range(-(-total // AT_ONCE))):
            bar.update(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--number", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=32, help="in pixels")
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    if min(arguments.number, arguments.side, arguments.classes) < 1:
        parser.error("number, side and classes are at least 1")
    if arguments.classes > arguments.number:
        parser.error("each class wants a picture: choose fewer classes")
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} is there already: name a new folder, or delete it")
    write(arguments.folder, arguments.number, arguments.side, arguments.classes)


if __name__ == "__main__":
    main()
