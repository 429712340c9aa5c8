"""How fast our training step is beside the textbook's. `alikit bench step RECIPE` prints what `compare` returns.

The textbook step is ALI as it is commonly written in PyTorch: the players take turns, each with a forward and a
backward pass of its own; D judges q's and p's pairs in two passes; all layers are the library's, in float32 and
NCHW; Adam is not fused.
It is another algorithm than ours, which takes both players' gradients at the same parameters: there G meets a D that
has just moved, and batch norm in D sees the two halves apart. Networks, first weights, losses and Adam's settings are
the same.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from alikit.convolutions import plain
from alikit.data import Dataset, GridMixture
from alikit.losses import discriminator_loss, gan_generator_loss, generator_loss
from alikit.models import GAN, AdversarialGame, Game
from alikit.networks import Maxout, Thin
from alikit.recipes import RECIPES, Recipe

ROUNDS, FEWEST = 20, 5  # short, and in turn, so that other work on the machine slows all of them alike
EPOCH = 20  # steps until the host-side loader shuffles again


class LibraryMaxout(nn.Module):
    """`Maxout` by the library's maximum."""

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.pieces, -1)).max(1).values


def _of_the_library(layer: nn.Module) -> nn.Module:
    """The library's own layer where we have a quicker one that computes the same."""
    if isinstance(layer, Maxout):
        return LibraryMaxout(layer.pieces)
    if isinstance(layer, Thin):
        linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, layer.weight.device)
        linear.load_state_dict(layer.state_dict())
        return linear.requires_grad_(layer.weight.requires_grad)  # or a frozen decoder would learn
    return layer


class Textbook:
    """A copy of the model, trained in turns. A game without a discriminator has one player, so its turn is all."""

    def __init__(self, model: Game, lr: float, betas: tuple[float, float]):
        self.model = plain(copy.deepcopy(model)).to(memory_format=torch.contiguous_format)
        for module in list(self.model.modules()):
            for name, layer in module.named_children():
                setattr(module, name, _of_the_library(layer))
        self.adams = {
            player: torch.optim.Adam(own, lr, betas, fused=False) for player, own in self.model.players().items()
        }

    def step(self, x: Tensor) -> None:
        """Each player's turn on one batch."""
        for player, adam in self.adams.items():
            self.model.zero_grad()  # G's turn leaves gradients in D as well
            self.loss(player, x).backward()
            adam.step()

    def loss(self, player: str, x: Tensor) -> Tensor:
        """One player's loss, from a forward pass of its own."""
        if not isinstance(self.model, AdversarialGame):
            return self.model.losses(x)[player]
        discriminator = self.model.discriminator
        if player == "generator":
            q_pair, p_pair = self.model.pairs(x)
            if isinstance(self.model, GAN):
                return gan_generator_loss(discriminator(*p_pair))
            return generator_loss(discriminator(*q_pair), discriminator(*p_pair))
        with torch.no_grad():
            q_pair, p_pair = self.model.pairs(x)
        if not self.model.r1:
            return discriminator_loss(discriminator(*q_pair), discriminator(*p_pair))
        q_pair = tuple(member.detach().requires_grad_() for member in q_pair)
        q_logits = discriminator(*q_pair)
        return discriminator_loss(q_logits, discriminator(*p_pair)) + self.model._steepness(q_logits, q_pair)


class _Examples(torch.utils.data.Dataset):
    """One example at a time, as a host-side loader asks for them; no file to read or decode, so a fast one."""

    def __init__(self, data: Dataset):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> Tensor:
        return self.data.floats(i)


def _batches(data: Dataset, batch_size: int) -> Iterator[Tensor]:
    loader = DataLoader(_Examples(data), batch_size, shuffle=True, drop_last=True)
    while True:
        yield from loader


def _stand_in(recipe: Recipe, n: int) -> Dataset:
    """n examples of the recipe's shape: points of the grid, or pictures of noise, which cost as much as real ones."""
    size = recipe.networks.size
    if size is None:
        return GridMixture().sample(n)
    channels = 1 if recipe.data == "digits" else 3
    return Dataset("noise", torch.randint(256, (n, channels, size, size), dtype=torch.uint8))


def _rate(job: Callable[[], object], calls: int, wait: Callable[[], object]) -> float:
    """Calls a second, until the last is really done."""
    wait()
    begin = time.perf_counter()
    for _ in range(calls):
        job()
    wait()
    return calls / (time.perf_counter() - begin)


def _in_turn(jobs: dict[str, Callable], seconds: float, wait: Callable[[], object]) -> dict[str, list[float]]:
    """Each job's rate in each of `ROUNDS` rounds; of jobs that take longer than that, in at least `FEWEST`."""
    share, calls = seconds / ROUNDS / len(jobs), {}
    for name, job in jobs.items():
        first = _rate(job, 1, wait)  # the first calls also choose kernels and find memory
        # One that takes far longer than its share is called once a round, whatever a second look would say.
        calls[name] = 1 if first * share < 0.2 else max(1, round(share * _rate(job, 3 if first > 1 else 1, wait)))
    begin, rounds = time.perf_counter(), []
    with tqdm(unit=" rounds", disable=None) as bar:
        while len(rounds) < FEWEST or (len(rounds) < ROUNDS and time.perf_counter() - begin < 1.5 * seconds):
            rounds.append({name: _rate(job, calls[name], wait) for name, job in jobs.items()})
            bar.update()
    return {name: [rates[name] for rates in rounds] for name in jobs}


def _summary(numbers: list[float]) -> dict[str, float]:
    low, median, high = (float(f"{number:.4g}") for number in statistics.quantiles(numbers, n=4))
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def _gflop(job: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops() / 1e9


def compare(
    recipe_name: str, batch_size: int, seconds: float = 20.0, device: str = "cpu", float32: bool = False
) -> dict:
    """Our step and the textbook's, alternating in this process for about `seconds`.

    precision              of our networks: what the recipe's trainer finds to be quicker here, or float32
    plain                  ours with PyTorch's own layers, because `float32` asked for that
    ours, textbook, textbook_with_loader   steps a second; ours always fetches its own batch, from data on the device;
                                           the textbook is given one that is ready, or a loader's, made on the host
    ratio, ratio_with_loader               ours over the textbook's, round by round
    gflop_a_step           of the matrix products and convolutions of our step, by their definition, as PyTorch's
                           counter counts them; gflop_made, what is left of that where `alikit.convolutions` takes a
                           shorter way
    gflops                 gflop_a_step times our rate; share_of_matmul is beside matmul_gflops, and above 1 where the
                           shorter way is quicker than products could be; share_made is of gflop_made
    matmul_gflops          the rate of a large matrix product in the same rounds and in our precision

    Each measured number is a median with its quartiles over the rounds. A recipe that starts from a finished GAN gets
    an untrained one, and data are stand-ins of the same shape: neither changes the cost of a step.
    """
    torch.manual_seed(0)
    recipe = replace(RECIPES[recipe_name], batch_size=batch_size)
    if float32:
        recipe = replace(recipe, bf16=False, plain=True)
    data = _stand_in(recipe, EPOCH * batch_size)
    model = recipe.build(data.shape, data.mean()).to(device).train()
    textbook = Textbook(model, recipe.lr, recipe.betas)
    by_definition = replace(recipe, bf16=False, plain=True).trainer(copy.deepcopy(model), data)
    trainer = recipe.trainer(model, data)
    x, batches = trainer.data.floats(slice(batch_size)), _batches(data, batch_size)
    side = 8192 if device == "cuda" else 1024
    dtype = torch.bfloat16 if trainer.bf16 else torch.float32
    factor, product = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    gflop, made = _gflop(by_definition.one_step), _gflop(trainer.one_step)

    rates = _in_turn(
        {
            "ours": trainer.one_step,
            "textbook": lambda: textbook.step(x),
            "textbook_with_loader": lambda: textbook.step(next(batches).to(device)),
            "matmul": lambda: torch.mm(factor, factor, out=product),
        },
        seconds,
        torch.cuda.synchronize if device == "cuda" else lambda: None,
    )
    ours, matmul = rates["ours"], [rate * 2 * side**3 / 1e9 for rate in rates.pop("matmul")]

    def over(other: list[float], scale: float = 1.0) -> dict[str, float]:
        return _summary([scale * a / b for a, b in zip(ours, other, strict=True)])

    return {
        "recipe": recipe_name,
        "batch": batch_size,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": "bfloat16" if trainer.bf16 else "float32",
        "plain": float32,
        "rounds": len(ours),
        **{name: _summary(numbers) for name, numbers in rates.items()},
        "ratio": over(rates["textbook"]),
        "ratio_with_loader": over(rates["textbook_with_loader"]),
        "gflop_a_step": gflop,
        "gflop_made": made,
        "gflops": _summary([rate * gflop for rate in ours]),
        "matmul_gflops": _summary(matmul),
        "share_of_matmul": over(matmul, gflop),
        "share_made": over(matmul, made),
    }
