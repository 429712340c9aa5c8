"""Train the feature network in which Frechet distance, precision, recall and the memorisation test are measured.

    python tools/feature_network.py --cifar10 data/cifar10-jpeg --tiny-imagenet data/tiny-imagenet-25k \\
        --celeba data/celeba-30k-64px

One trunk with three heads at 32x32: the classes of CIFAR-10 and of Tiny ImageNet, and CelebA's attributes, so that the
features know objects and faces. Only the trunk is kept, in 16 bits; the file's metadata has each head's accuracy on
held-out pictures, the seed, and how many pictures were seen. About 25 minutes on one core.
"""

import argparse
import json
import time
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
SHARES = {"cifar10": 7, "tiny_imagenet": 6, "celeba": 3}  # sixteenths of a batch
WEIGHTS = {"cifar10": 1, "tiny_imagenet": 1, "celeba": 5}  # of the losses


def shifted(x: Tensor) -> Tensor:
    """Each picture moved by up to SHIFT pixels, its edges mirrored, and half of them flipped."""
    padded = F.pad(x, (SHIFT,) * 4, mode="reflect")
    down, right = torch.randint(2 * SHIFT + 1, (2, len(x), 1))
    rows, columns = down + torch.arange(SIZE), right + torch.arange(SIZE)
    columns = torch.where(torch.rand(len(x), 1) < 0.5, columns, columns.flip(1))
    return padded[torch.arange(len(x))[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def train(data: dict[str, Dataset], steps: int, batch: int) -> tuple[FeatureNetwork, nn.ModuleDict]:
    """Trains trunk and heads together, by stochastic gradient descent at a rate that rises once and falls to 0."""
    trunk = FeatureNetwork().to(memory_format=torch.channels_last)
    heads = nn.ModuleDict({name: nn.Linear(trunk.num_features, len(part.classes)) for name, part in data.items()})
    parameters = [*trunk.parameters(), *heads.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / (0.2 * steps), 1 - step / steps))
    started = time.perf_counter()
    for step in range(1, steps + 1):
        x, labels = {}, {}
        for name, part in data.items():
            index = torch.randint(len(part), (SHARES[name] * (batch // 16),))
            x[name], labels[name] = shifted(part.floats(index)), part.labels[index]
        with torch.autocast("cpu", torch.bfloat16):  # half the time
            features = trunk(torch.cat([*x.values()])).float().split([*map(len, x.values())])
        losses = {}
        for name, part in zip(data, features, strict=True):
            if labels[name].ndim == 2:
                loss = F.binary_cross_entropy_with_logits(heads[name](part), labels[name].float())
            else:
                loss = F.cross_entropy(heads[name](part), labels[name], label_smoothing=0.1)
            losses[name] = WEIGHTS[name] * loss
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
        rate.step()
        if step % 100 == 0 or step == steps:
            shown = "  ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
            print(f"step {step:5}  {time.perf_counter() - started:5.0f} s  loss {shown}", flush=True)
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
    try:
        folders = {name: vars(given)[name] for name in SHARES}
        parts = {name: load(f"{'table' if name == 'celeba' else 'folder'}:{at}", SIZE) for name, at in folders.items()}
    except AlikitError as error:
        parser.error(str(error))
    trunk, heads = train({name: part for name, (part, _) in parts.items()}, given.steps, given.batch)
    trunk.load_state_dict(storage.pack(trunk, limit=LIMIT))  # as it will be read from the file
    accuracy = {}
    with torch.no_grad():
        for name, (_, held_out) in parts.items():
            logits = torch.cat([heads[name](trunk(x)) for x in held_out.batches(500)])
            answers = logits > 0 if held_out.labels.ndim == 2 else logits.argmax(1)
            accuracy[name] = round((answers == held_out.labels).double().mean().item(), 4)
    known = {
        "held_out_accuracy": accuracy,  # share of the classes, or of the attributes, that are right
        "held_out_pictures": {name: len(held_out) for name, (_, held_out) in parts.items()},
        "pictures_seen": {name: given.steps * share * (given.batch // 16) for name, share in SHARES.items()},
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
