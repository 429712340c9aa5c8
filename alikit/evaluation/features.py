"""What a picture shows, rather than its pixels: the networks in whose features sets of pictures are compared."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import storage
from ..data.dataset import Dataset
from ..errors import AlikitError
from ..models import Game
from .examples import told

FILE = Path(__file__).with_name("feature_network.safetensors")
SIZE = 32  # side in pixels of the pictures that the feature network looks at
PICTURES = 10_000  # of each set at most; 30,000 pictures of 32x32 take about a minute on one core
FEWEST = 5
BATCH = 250  # pictures at once: few enough that the widest layer's maps fill some 25 MB


def _unit(maps_in: int, maps: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(maps_in, maps, kernel, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(maps), nn.ReLU())


class _Residual(nn.Sequential):
    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)


class FeatureNetwork(nn.Module):
    """Pictures (N, 3, S, S) in [0, 1], S at least 32 -> features (N, 160), none negative.

    Larger pictures are first resized to 32x32 by averaging areas. A residual network of 640,000 parameters, the trunk
    of a classifier: the features are its last maps averaged over the picture. A new one has random weights, and
    `feature_network` gives the trained one. AlikitError for pictures that are not square RGB of at least 32x32.
    """

    num_features = 160

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            _unit(3, 24),
            _unit(24, 48, kernel=4, stride=2),  # 16x16
            _Residual(_unit(48, 48), _unit(48, 48)),
            _unit(48, 96, stride=2),  # 8x8
            _Residual(_unit(96, 96), _unit(96, 96)),
            _unit(96, self.num_features, stride=2),  # 4x4
            _Residual(_unit(self.num_features, self.num_features)),
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] != x.shape[3] or x.shape[2] < SIZE:
            raise AlikitError(
                f"the feature network sees square RGB pictures of 32x32 or more, and these examples are "
                f"{'x'.join(map(str, x.shape[1:]))}: leave out fidelity and copying"
            )
        if x.shape[2] > SIZE:
            x = F.adaptive_avg_pool2d(x, SIZE)
        maps = self.trunk((4 * x - 2).contiguous(memory_format=torch.channels_last))
        return maps.mean((2, 3))


def feature_network(file: str | Path = FILE) -> FeatureNetwork:
    """The `FeatureNetwork` that ships with alikit, on the CPU and ready to be asked.

    It learned to tell the classes of CIFAR-10 and of Tiny ImageNet and the attributes of CelebA, so it knows objects
    and faces; the file's metadata says how well (tools/feature_network.py). Distances in its features are on a scale of
    their own, not Inception's. AlikitError where the file is missing or damaged.
    """
    network = FeatureNetwork()
    storage.from_file(network, Path(file), "install alikit again, or run tools/feature_network.py")
    return network.requires_grad_(False).eval()


class Inception(nn.Module):
    """torchvision's Inception v3 up to its pooled features: pictures (N, 3, H, W) in [0, 1] -> (N, 2048).

    Pictures are resized to 299x299, bilinear with antialiasing. Its weights are not those of the Inception behind
    published Frechet distances, so it gives numbers that are near to those in kind and not in value.
    """

    num_features = 2048

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        from torchvision.models import inception_v3

        self.net = inception_v3(weights=None, init_weights=False, aux_logits=True)
        self.net.load_state_dict(state)
        self.net.fc = nn.Identity()
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (299, 299), mode="bilinear", antialias=True)
        return self.net(2 * x - 1)


def inception() -> Inception:
    """`Inception` with torchvision's weights from the torch hub's cache. Nothing is fetched.

    AlikitError where they are not at hand, saying which file belongs where, or the file is damaged.
    """
    from torchvision.models import Inception_V3_Weights

    url = Inception_V3_Weights.IMAGENET1K_V1.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not file.is_file():
        raise AlikitError(f"Inception's weights are not at hand: fetch {url} to {file}, or leave Inception out")
    try:
        return Inception(torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # a damaged file can make the unpickler raise nearly anything
        raise AlikitError(f"{file} is damaged: delete it, or fetch it again") from None


@dataclass(frozen=True)
class Sets:
    """Three sets of n pictures each in a network's features: what `fidelity` and `copying` compare.

    samples   (n, F) features of the model's samples; train, held_out likewise of real pictures
    x_tilde   (n, C, H, W) uint8, the samples themselves
    train_index, held_out_index   (n,) which examples of the two parts these are
    """

    samples: Tensor
    train: Tensor
    held_out: Tensor
    x_tilde: Tensor
    train_index: Tensor
    held_out_index: Tensor


def in_features(model: Game, train: Dataset, held_out: Dataset, network: nn.Module, n: int = PICTURES) -> Sets:
    """Draws n samples, n training and n held-out pictures, all by torch's global seed, and puts them through `network`.
    A conditional model draws its samples for the y of those training pictures.

    network  pictures (N, C, H, W) in [0, 1] -> features (N, F)
    n        fewer where a part has fewer: always the same number of all three, for the measures depend on it

    AlikitError for fewer than 5 pictures, or pictures that the network cannot see.
    """
    n = min(n, len(train), len(held_out))
    if n < FEWEST:
        raise AlikitError(f"cannot compare sets of {n} pictures: choose at least {FEWEST}, and data that has as many")
    train_index, held_out_index = torch.randperm(len(train))[:n], torch.randperm(len(held_out))[:n]
    real = [features(network, part.select(i)) for part, i in ((train, train_index), (held_out, held_out_index))]
    y = told(model, train.select(train_index))
    drawn = [
        model.sample(min(BATCH, n - begin), y if y is None else y[begin : begin + BATCH]).cpu()
        for begin in range(0, n, BATCH)
    ]
    # Rounded to 256 levels like the pictures they are compared with. Broken numbers have no level; they stay broken.
    x_tilde = torch.cat([(255 * x).round().clamp(0, 255).nan_to_num().byte() for x in drawn])
    samples = features(network, Dataset("samples", x_tilde))
    samples[torch.cat([~x.flatten(1).isfinite().all(1) for x in drawn])] = torch.nan
    return Sets(samples, *real, x_tilde, train_index, held_out_index)


@torch.no_grad()
def features(network: nn.Module, pictures: Dataset) -> Tensor:
    """Every picture's features, (N, F) float32 on the CPU; the network is asked on its own device."""
    device = next(network.parameters()).device
    return torch.cat([network(x.to(device)).float().cpu() for x in pictures.batches(BATCH)])
