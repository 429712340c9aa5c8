"""Draw a folder of very many small pictures, to try what does not fit into memory.

    python tools/many_pictures.py FOLDER                 200,000 pictures of 32x32 in ten classes, 0.8 GB, some minutes
    python tools/many_pictures.py FOLDER --number 1000000
    alikit train cifar10-small --data folder:FOLDER --steps 20 --batch 64

They are JPEG copies of 500 drawings, as `alikit bench folder` trains on.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # others have installed something of that name

from benchmarks.scaling import make_folder

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--number", type=int, default=200_000)
    given = parser.parse_args()
    if given.folder.exists():
        parser.error(f"{given.folder} is there already: name a new folder, or delete it")
    make_folder(given.folder, given.number)
