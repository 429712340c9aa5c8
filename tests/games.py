"""Small games of every kind, and what several test files do with them."""

from functools import partial
from pathlib import Path

import torch
from torch import nn

from alikit.data import Dataset, digits
from alikit.models import ALI, GAN, VAE, inverse_mapping, post_hoc_inference
from alikit.networks import Conditioned, Deterministic, Discriminator, Embedding, Gaussian, NoiseInput, mlp
from alikit.recipes import Recipe
from alikit.semi_supervised import FeatureMatchingGAN, KPlusOne
from alikit.training import OF_GAMES

X, Z, A, E, K, N = 3, 2, 5, 4, 4, 10  # numbers of x, z, y and its embedding; classes; examples
norm = partial(mlp, batch_norm=True)
ENCODERS = {
    "gaussian": lambda: Gaussian(norm([X, 8, 2 * Z])),
    "deterministic": lambda: Deterministic(norm([X, 8, Z])),
    "noise": lambda: NoiseInput(norm([X + 2, 8, Z]), noise=2),
}
DECODERS = {"deterministic": lambda: Deterministic(norm([Z, 8, X])), "gaussian": lambda: Gaussian(norm([Z, 8, 2 * X]))}


def discriminator(*members: int, outputs: int = 1, embedding: bool = False) -> Discriminator:
    """Of members of these lengths. Its batch norm shows whether both pairs went through in one pass."""
    towers = [*(nn.Identity() for _ in members), *([Embedding(A, E)] if embedding else [])]
    return Discriminator(towers, norm([sum(members) + E * embedding, 8, outputs]))


def gan() -> GAN:
    return GAN(DECODERS["deterministic"](), discriminator(X), Z)


def ali(
    encoder: str = "gaussian", decoder: str = "deterministic", kind: type[ALI] = ALI, outputs: int = 1, **more
) -> ALI:
    """`more` are the game's parameters, or its settings."""
    settings = {name: more.pop(name) for name in set(more) & set(OF_GAMES)}
    game = kind(ENCODERS[encoder](), DECODERS[decoder](), discriminator(X, Z, outputs=outputs), Z, **more)
    for name, value in settings.items():
        setattr(game, name, value)
    return game


def conditioned(fan_in: int, fan_out: int) -> Conditioned:
    return Conditioned(mlp([fan_in, 8, 8]), Embedding(A, E), mlp([8 + E, 8, fan_out]))


def conditional_ali() -> ALI:
    networks = Gaussian(conditioned(X, 2 * Z)), Deterministic(conditioned(Z, X))
    return ALI(*networks, discriminator(X, Z, embedding=True), Z)


GAMES = {
    "gan": gan,
    "ali": ali,
    "bigan": lambda: ali("deterministic"),
    "noise": lambda: ali("noise"),
    "gaussian-decoder": lambda: ali("gaussian", "gaussian"),
    "post-hoc": lambda: post_hoc_inference(gan(), ENCODERS["gaussian"](), discriminator(X, Z)),
    "inverse": lambda: inverse_mapping(gan(), ENCODERS["gaussian"]()),
    "vae": lambda: VAE(ENCODERS["gaussian"](), DECODERS["deterministic"](), Z),
    "k+1": lambda: ali(kind=KPlusOne, outputs=K, classes=K),
    "k+1-explicit": lambda: ali(kind=KPlusOne, outputs=K + 1, classes=K),
    "feature-matching": lambda: FeatureMatchingGAN(DECODERS["deterministic"](), discriminator(X, outputs=K), Z, K),
    "conditional-gan": lambda: GAN(Deterministic(conditioned(Z, X)), discriminator(X, embedding=True), Z),
    "conditional": conditional_ali,
}


CLASSES = 10  # of the examples of recipes


def shape_of(recipe: Recipe) -> tuple[int, ...]:
    """Of an example that the recipe takes."""
    size = recipe.networks.size
    return (2,) if size is None else (1, 8, 8) if size == 8 else (3, size, size)


def examples(recipe: Recipe) -> Dataset:
    """A few, in torch's default type where that is not float32."""
    shape, generator = shape_of(recipe), torch.Generator().manual_seed(0)
    if len(shape) == 1:
        return Dataset("points", torch.randn(500, 2, generator=generator))
    if shape == (1, 8, 8):
        return digits().select(slice(100))
    x = torch.randint(256, (20, *shape), dtype=torch.uint8, generator=generator)
    if torch.get_default_dtype() != torch.float32:
        x = x.to(torch.get_default_dtype()) / 255
    y = torch.randint(2, (20, 14), dtype=torch.uint8, generator=generator) if recipe.is_conditional else None
    y = torch.arange(20) % CLASSES if y is None else y
    return Dataset("pictures", x, y, tuple(map(str, range(14 if recipe.is_conditional else CLASSES))))


def batch(game: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """x (N, X) and y as that game wants it: conditions, the classes of the last 4 examples, or nothing."""
    x = torch.randn(N, X) + 1
    if game.startswith("conditional"):
        return x, torch.randint(2, (N, A)).float()
    return x, torch.tensor([0, 1, 2, 2]) if GAMES[game]().classes else None


def gradients(model, x, y=None) -> tuple[dict, dict]:
    """Each player's loss and the gradient of it by that player's own parameters, always from the same noise."""
    torch.manual_seed(1)
    losses, players = model.losses(x, y), model.players()
    return losses, {p: torch.autograd.grad(losses[p], own, retain_graph=True) for p, own in players.items()}


# That two states, nested or not, hold the same values, to the last bit.
assert_same = partial(torch.testing.assert_close, rtol=0, atol=0, equal_nan=True)


def differ(one, other) -> bool:
    try:
        assert_same(one, other)
    except AssertionError:
        return True
    return False


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def readme_recipes() -> str:
    """The file of the README that registers recipes and a metric."""
    blocks = (Path(__file__).parents[1] / "README.md").read_text().split("```python\n")[1:]
    return "\n".join(text for text in (block.partition("```")[0] for block in blocks) if "register(" in text)
