"""How fast our training step is beside the textbook's. `alikit bench step RECIPE` prints what `compare` returns.

The textbook step is ALI as it is commonly written in PyTorch: the players take turns, each with a forward and a
backward pass of its own; D sees q's and p's pairs in two passes; all layers are the library's, in float32 and NCHW;
Adam is not fused.
Ours takes both players' gradients at the same parameters; in the textbook's, G meets a D that has just moved, and batch
norm in D sees the two halves separately. Networks, first weights, losses and Adam's settings are the same.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from alikit.data import Dataset
from alikit.errors import AlikitError
from alikit.fast import accelerate
from alikit.losses import discriminator_loss, gan_generator_loss, generator_loss
from alikit.models import GAN, AdversarialGame, Game
from alikit.networks import Maxout
from alikit.recipes import Recipe, named
from alikit.training import Config, Trainer

from . import common

ROUNDS, FEWEST = 20, 5
LATER = ("loss", "r2", "penalty_every", "cycle_x", "cycle_z", "unary", "lr_discriminator")  # what came after
EPOCH = 20  # steps until the loader shuffles again


class LibraryMaxout(nn.Module):
    """`Maxout` by the library's maximum."""

    def __init__(self, pieces: int):
        super().__init__()
        self.pieces = pieces

    def forward(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.pieces, -1)).max(1).values


def with_library_layers(model: Game) -> Game:
    """A copy of the model in NCHW, with the library's own layers in place of our quicker ones."""
    model = accelerate(copy.deepcopy(model), False).to(memory_format=torch.contiguous_format)
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, Maxout):
                setattr(module, name, LibraryMaxout(layer.pieces))
    return model


def trainer(recipe: Recipe, data: Dataset, library: bool = False, model: Game | None = None, seed: int = 0) -> Trainer:
    """Our trainer of a new model, or of `model`; with `library` in float32 and without the quick layers."""
    if model is None:
        kinds = data.conditions(slice(2)).shape[1] if data.labels is not None else None
        model = recipe.build(data.shape, data.mean(), classes=kinds, attributes=kinds).to(common.device()).train()
    return (replace(recipe, bf16=False, fast=False) if library else recipe).trainer(model, data, seed)


class Textbook:
    """A copy of the model, trained in turns. A game without a discriminator has one player, and so one turn."""

    def __init__(self, model: Game, lr: float, betas: tuple[float, float]):
        self.model = with_library_layers(model)
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
        with torch.set_grad_enabled(player == "generator"):
            q_pair, p_pair = self.model.pairs(x)
        if player == "generator":
            if isinstance(self.model, GAN):
                return gan_generator_loss(discriminator(*p_pair))
            return generator_loss(discriminator(*q_pair), discriminator(*p_pair))
        if not self.model.r1:
            return discriminator_loss(discriminator(*q_pair), discriminator(*p_pair))
        q_pair = [member.detach().requires_grad_() for member in q_pair]
        q_logits = discriminator(*q_pair)
        slopes = torch.autograd.grad(q_logits.sum(), q_pair, create_graph=True)
        r1_penalty = self.model.r1 / 2 * sum(slope.square().flatten(1).sum(1) for slope in slopes).mean()
        return discriminator_loss(q_logits, discriminator(*p_pair)) + r1_penalty


def batches(data: Dataset, batch_size: int) -> Iterator[Tensor]:
    """Whole batches for ever, made by PyTorch's loader from one example at a time; without a file to read or decode."""

    def collate(chosen: list[int]) -> Tensor:
        return torch.stack([data.floats(i) for i in chosen])

    loader = DataLoader(range(len(data)), batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    while True:
        yield from loader


def gflop(job: Callable[[], object]) -> float:
    """The products that a job computes, in 10^9 operations."""
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops() / 1e9


def compare(
    recipe: str = "", batch: int | None = None, seconds: float = 20.0, device: str | None = None, float32: bool = False
) -> dict:
    """Our training step beside the textbook's, alternating; prints one JSON line. Of any recipe without labels.

    precision       of our networks: what the recipe's trainer finds to be quicker here, or float32
    plain           whether ours has PyTorch's own layers, by `float32`
    ours, textbook, textbook_with_loader    steps a second; ours fetches its own batch, the textbook gets one that is
                    ready, or a loader's, made on the host
    ratio, ratio_with_loader                ours over the textbook's, round by round
    gflop_a_step    of our step's products and convolutions by their definition, as PyTorch counts them; gflop_made, of
                    those that the quick layers compute; gflops, a second
    matmul_gflops   of a large matrix product, a second, in the same rounds and in our precision; share_of_matmul and
                    share_made are ours over it, and the former is above 1 if no product could be as quick

    Each measured number is a median with its quartiles over the rounds. A recipe that starts from a finished GAN gets
    an untrained one, and data are stand-ins of the same shape: neither changes the cost of a step.

    Raises AlikitError for a recipe that the textbook's step cannot train, and for a device that is not there.
    """
    row, device = named(recipe), device or common.device()
    if more := [name for name in LATER if getattr(row, name) != getattr(Config(), name)]:
        raise AlikitError(
            f"{recipe} has {', '.join(more)}, which the textbook's step does not know: choose another recipe"
        )
    if row.has_labels or row.is_conditional:
        what = "needs labels" if row.has_labels else "is conditioned on y"
        raise AlikitError(f"{recipe} {what}, which the textbook's step does not have: choose a recipe without")
    if device not in ("cpu", common.device()):
        raise AlikitError(f"PyTorch finds no device called {device!r} here: say --device {common.device()}")
    torch.manual_seed(0)
    batch = batch or row.batch_size
    row = replace(row, batch_size=batch)
    data = common.stand_in(row, EPOCH * batch)
    model = row.build(data.shape, data.mean()).to(device).train()
    textbook = Textbook(model, row.lr, row.betas)
    by_definition = trainer(row, data, library=True, model=copy.deepcopy(model))
    ours = trainer(row, data, library=float32, model=model)
    x, loader = ours.data.floats(slice(batch)), batches(data, batch)
    side = 8192 if device == "cuda" else 1024
    dtype = torch.bfloat16 if ours.bf16 else torch.float32
    factor, product = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    defined, made = gflop(by_definition.one_step), gflop(ours.one_step)

    jobs = {
        "ours": ours.one_step,
        "textbook": lambda: textbook.step(x),
        "textbook_with_loader": lambda: textbook.step(next(loader).to(device)),
        "matmul": lambda: torch.mm(factor, factor, out=product),
    }
    rates = common.in_turn(jobs, seconds, ROUNDS, FEWEST)
    matmul = [rate * 2 * side**3 / 1e9 for rate in rates.pop("matmul")]

    def over(other: list[float], scale: float = 1.0) -> dict[str, float]:
        return common.summary([scale * a / b for a, b in zip(rates["ours"], other, strict=True)])

    return {
        "recipe": recipe,
        "batch": batch,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": "bfloat16" if ours.bf16 else "float32",
        "plain": float32,
        "rounds": len(matmul),
        **{way: common.summary(numbers) for way, numbers in rates.items()},
        "ratio": over(rates["textbook"]),
        "ratio_with_loader": over(rates["textbook_with_loader"]),
        "gflop_a_step": defined,
        "gflop_made": made,
        "gflops": common.summary([rate * defined for rate in rates["ours"]]),
        "matmul_gflops": common.summary(matmul),
        "share_of_matmul": over(matmul, defined),
        "share_made": over(matmul, made),
    }
