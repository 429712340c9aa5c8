"""Train the feature network that Frechet distance, precision, recall and the check against copying are measured in.

    python tools/feature_network.py --cifar10 data/cifar10-jpeg --tiny-imagenet data/tiny-imagenet-25k \\
        --celeba data/celeba-30k-64px

One trunk with three heads at 32x32: the classes of CIFAR-10 and of Tiny ImageNet, and CelebA's attributes, so that the
features know objects and faces. The trunk alone is kept, in 16 bits; the file's metadata says what the heads reached on
held-out pictures, the seed, and how many pictures were seen. About 25 minutes on one core.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from alikit import storage
from alikit.data import Dataset, load
from alikit.errors import AlikitError
from alikit.evaluation.features import FILE, SIZE, FeatureNetwork

LIMIT = 2**21  # bytes of the file: up to this, weights are kept in 16 bits
SHIFT = 4  # pixels by which a picture is moved at most while training, in each direction


@dataclass
class Task:
    """One data set, `pictures` of it in each batch, and the weight of its loss: of classes, or of attributes."""

    train: Dataset
    held_out: Dataset
    pictures: int
    weight: float

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if labels.ndim == 2:
            return self.weight * F.binary_cross_entropy_with_logits(logits, labels.float())
        return self.weight * F.cross_entropy(logits, labels, label_smoothing=0.1)

    def accuracy(self, trunk: FeatureNetwork, head: nn.Linear) -> float:
        """Share of held-out pictures given the right class, or of attributes given right."""
        logits, labels = torch.cat([head(trunk(x)) for x in self.held_out.batches(500)]), self.held_out.labels
        answers = logits > 0 if labels.ndim == 2 else logits.argmax(1)
        return (answers == labels).double().mean().item()


def shifted(x: Tensor) -> Tensor:
    """Each picture moved by up to SHIFT pixels, its edges mirrored, and half of them flipped."""
    padded = F.pad(x, (SHIFT,) * 4, mode="reflect")
    down, right = torch.randint(2 * SHIFT + 1, (2, len(x), 1))
    rows, columns = down + torch.arange(SIZE), right + torch.arange(SIZE)
    columns = torch.where(torch.rand(len(x), 1) < 0.5, columns, columns.flip(1))
    return padded[torch.arange(len(x))[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def train(tasks: dict[str, Task], steps: int) -> tuple[FeatureNetwork, nn.ModuleDict]:
    """Trains trunk and heads together, by stochastic gradient descent at a rate that rises once and falls to 0."""
    trunk = FeatureNetwork().to(memory_format=torch.channels_last)
    heads = nn.ModuleDict(
        {name: nn.Linear(trunk.num_features, len(task.train.classes)) for name, task in tasks.items()}
    )
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / (0.2 * steps), 1 - step / steps))
    started = time.perf_counter()
    for step in range(1, steps + 1):
        x, labels = [], []
        for task in tasks.values():
            index = torch.randint(len(task.train), (task.pictures,))
            x.append(shifted(task.train.floats(index)))
            labels.append(task.train.labels[index])
        with torch.autocast("cpu", torch.bfloat16):  # half the time
            features = trunk(torch.cat(x)).float().split([*map(len, x)])
        losses = [
            task.loss(heads[name](part), of)
            for (name, task), part, of in zip(tasks.items(), features, labels, strict=True)
        ]
        optimiser.zero_grad()
        sum(losses).backward()
        optimiser.step()
        rate.step()
        if step % 100 == 0 or step == steps:
            said = "  ".join(f"{name} {loss.item():.3f}" for name, loss in zip(tasks, losses, strict=True))
            print(f"step {step:5}  {time.perf_counter() - started:5.0f} s  loss {said}", flush=True)
    return trunk.eval(), heads.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the feature network of the evaluation.")
    parser.add_argument("--cifar10", required=True, help="folder with train/<class>/ and test/<class>/")
    parser.add_argument("--tiny-imagenet", required=True, help="folder with train/<class>/ and val/<class>/")
    parser.add_argument("--celeba", required=True, help="folder with images/ and attributes.csv")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=256, help="pictures in a batch, of the three data sets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    part = given.batch // 16
    try:
        tasks = {
            "cifar10": Task(*load(f"folder:{given.cifar10}", SIZE), 7 * part, weight=1),
            "tiny_imagenet": Task(*load(f"folder:{given.tiny_imagenet}", SIZE), 6 * part, weight=1),
            "celeba": Task(*load(f"table:{given.celeba}", SIZE), 3 * part, weight=5),
        }
    except AlikitError as error:
        parser.error(str(error))
    trunk, heads = train(tasks, given.steps)
    trunk.load_state_dict(storage.pack(trunk, limit=LIMIT))  # as it will be read from the file
    with torch.no_grad():
        accuracy = {name: round(task.accuracy(trunk, heads[name]), 4) for name, task in tasks.items()}
    known = {
        "held_out_accuracy": accuracy,
        "held_out_pictures": {name: len(task.held_out) for name, task in tasks.items()},
        "pictures_seen": {name: given.steps * task.pictures for name, task in tasks.items()},
        "seed": given.seed,
        "steps": given.steps,
    }
    trunk = trunk.to(memory_format=torch.contiguous_format)
    metadata = {name: json.dumps(value) for name, value in known.items()}
    save_file(storage.pack(trunk, limit=LIMIT), given.out, metadata=metadata)
    print(json.dumps(known, indent=1))
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
