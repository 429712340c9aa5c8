"""Draw a folder of very many small pictures, to try what does not fit into memory.

    python tools/many_pictures.py FOLDER                 200,000 pictures of 32x32 in ten classes, 0.7 GB, some minutes
    python tools/many_pictures.py FOLDER --number 1000000
    alikit train cifar10-small --data folder:FOLDER --steps 20 --batch 64

FOLDER/<class>/<number>.png is noise around the colour of its class. They are drawn one after the other, so a smaller
folder is the beginning of a larger one.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import trange

NOISE = 80  # levels between the darkest and the brightest value of a channel, of 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--number", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=32, help="in pixels")
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already: name a new folder, or delete it")
    places = [given.folder / f"class-{label:04d}" for label in range(given.classes)]
    for place in places:
        place.mkdir(parents=True)
    colours = [colorsys.hsv_to_rgb(label / given.classes, 0.7, 1) for label in range(given.classes)]
    colours = (np.array(colours) * (256 - NOISE)).astype(np.uint8)
    chance = np.random.default_rng(0)
    for number in trange(given.number, unit=" pictures"):
        label = number % given.classes
        noise = chance.integers(0, NOISE, (given.side, given.side, 3), dtype=np.uint8)
        Image.fromarray(noise + colours[label]).save(places[label] / f"{number:08d}.png", compress_level=1)


if __name__ == "__main__":
    main()
