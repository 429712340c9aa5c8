"""What a picture shows, rather than its pixels: the networks in whose features sets of pictures are compared."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import reading, storage
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from ..networks import Residual
from .inference import conditions_of

FILE = Path(__file__).with_name("feature_network.safetensors")
SIZE = 32  # side in pixels of the pictures that the feature network looks at
PICTURES = 10_000  # in each set at most; 30,000 pictures of 32x32 take about a minute on one core
FEWEST = 5
BATCH = 250  # pictures at once: the widest layer's maps then fill some 25 MB


def unit(maps_in: int, maps: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU: (N, maps_in, S, S) -> (N, maps, S / stride, S / stride)."""
    convolution = nn.Conv2d(maps_in, maps, kernel, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(maps), nn.ReLU())


def in_colour(x: Tensor, side: int) -> Tensor:
    """Pictures (N, C, S, S), C 1 or 3, as (N, 3, side, side): grey is repeated for each colour, larger pictures are
    averaged, smaller ones enlarged bilinearly."""
    if x.shape[2] > side:
        x = F.adaptive_avg_pool2d(x, side)
    elif x.shape[2] < side:
        x = F.interpolate(x, (side, side), mode="bilinear")
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class FeatureNetwork(nn.Module):
    """Pictures (N, C, S, S) in [0, 1], C 1 or 3 -> features (N, 160), none negative.

    It sees 32x32 pixels in colour: grey is repeated for each colour, larger pictures are averaged to 32x32, smaller
    ones enlarged bilinearly. A residual network of 640,000 parameters, the trunk of a classifier of colour photographs;
    the features are its last maps averaged over the picture. AlikitError for other examples.
    """

    num_features = 160

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            unit(3, 24),
            unit(24, 48, kernel=4, stride=2),  # 16x16
            Residual(unit(48, 48), unit(48, 48)),
            unit(48, 96, stride=2),  # 8x8
            Residual(unit(96, 96), unit(96, 96)),
            unit(96, self.num_features, stride=2),  # 4x4
            Residual(unit(self.num_features, self.num_features)),
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3) or x.shape[2] != x.shape[3]:
            shape = "x".join(map(str, x.shape[1:]))
            wanted = "the feature network sees square pictures, RGB or grey"
            raise AlikitError(f"{wanted}, and these examples are {shape}: leave out fidelity, copying and classes")
        return self.trunk(4 * in_colour(x, SIZE) - 2).mean((2, 3))


def feature_network(file: str | Path = FILE) -> FeatureNetwork:
    """The trained `FeatureNetwork` that ships with alikit, frozen, on the CPU.

    It learned the classes of CIFAR-10 and Tiny ImageNet and the attributes of CelebA (tools/feature_network.py); the
    file's metadata says how well. Distances in its features have a scale of their own, not Inception's.
    """
    network = FeatureNetwork()
    storage.from_file(network, Path(file), "install alikit again, or run tools/feature_network.py")
    return network.requires_grad_(False).eval()


def inception() -> nn.Module:
    """torchvision's Inception v3 up to its pooled features: pictures (N, C, H, W) in [0, 1], C 1 or 3, -> (N, 2048).

    The weights come from the torch hub's cache: nothing is downloaded, AlikitError where they are missing or damaged.
    They are not the weights behind published Frechet distances, so numbers are of the same kind but not comparable.
    """
    from torchvision.models import Inception_V3_Weights, inception_v3
    from torchvision.transforms.v2 import Normalize, Resize

    url = Inception_V3_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    network = inception_v3(weights=None, init_weights=False)
    with reading.boundary(file, f"fetch {url} and put it there, or leave Inception out"):
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    network.fc = nn.Identity()
    return nn.Sequential(Resize((299, 299)), Normalize([0.5] * 3, [0.5] * 3), network).requires_grad_(False).eval()


def samples_for(model: Game, data: Dataset) -> list[Tensor]:
    """As many samples as there are examples, in batches, on the CPU; those of a conditional model have their y."""
    y = conditions_of(model, data)
    return [model.sample(len(i), None if y is None else y[i]).cpu() for i in torch.arange(len(data)).split(BATCH)]


def in_features(model: Game, train: Dataset, held_out: Dataset, network: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Draws n samples, n training and n held-out pictures by torch's global seed: the features of each, (n, F).

    `network` turns pictures (N, C, H, W) in [0, 1] into features (N, F), on its own device. A conditional model draws
    its samples for the y of those training pictures. n is 10,000, or the size of the smaller part: the measures depend
    on it. Features of a sample that is not finite are NaN. AlikitError for fewer than 5 pictures.
    """
    n = min(PICTURES, len(train), len(held_out))
    if n < FEWEST:
        raise AlikitError(f"cannot compare sets of {n} pictures: choose at least {FEWEST}, and data that has as many")
    device = next((parameter.device for parameter in network.parameters()), model.device)

    def features(pictures: Dataset) -> Tensor:
        with Game.inference(network):
            return torch.cat([network(x.to(device)).float().cpu() for x in pictures.batches(BATCH)])

    pictures = [part.select(torch.randperm(len(part))[:n]) for part in (train, held_out)]
    real, drawn = [features(part) for part in pictures], samples_for(model, pictures[0])
    # Rounded to 256 levels, as the pictures are that they are compared with.
    rounded = torch.cat([(255 * x).round().clamp(0, 255).nan_to_num().byte() for x in drawn])
    samples = features(Dataset("samples", rounded, channels="first", scale=(0, 255)))
    samples[torch.cat([~x.flatten(1).isfinite().all(1) for x in drawn])] = torch.nan
    return samples, *real
