#!/usr/bin/env bash
# torchvision 0.29.2: ToDtype(torch.uint8, scale=True) and convert_image_dtype turn 1.0 into 0 where the picture is
# float16 or bfloat16, as what a generator draws under autocast is: white becomes black, and every other value is right.
# They multiply by 256 - 0.001, which these types round to 256, and 256 does not fit into 8 bits; in float32 the same
# line is exact. Nothing is said. A tanh or sigmoid that saturates gives such values by the thousand.
# What to do: picture.float() first, or (255 * picture.float()).round().byte().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2
"$folder/venv/bin/python" - <<'PY'
import torch
import torchvision
from torchvision.transforms.functional import convert_image_dtype
from torchvision.transforms.v2 import ToDtype

print("torchvision", torchvision.__version__.partition("+")[0], "torch", torch.__version__.partition("+")[0])
half = [0, 128, 248, 0]
for dtype, expected in ((torch.float32, [0, 127, 247, 255]), (torch.float16, half), (torch.bfloat16, half)):
    picture = torch.tensor([0, 1 / 2, 31 / 32, 1]).to(dtype).expand(3, 1, 4)  # exact in each of these types
    for way in (ToDtype(torch.uint8, scale=True), lambda x: convert_image_dtype(x, torch.uint8)):
        values = way(picture)[0, 0].tolist()
        print(f"{str(dtype):<15} 0, 1/2, 31/32, 1 -> {values}")
        assert values == expected
PY
