"""Quicker layers for training on a processor, applied to a model from outside.

    accelerate(model)

replaces PyTorch's layers in a model, in place, by layers that compute the same up to rounding in less time. Parameters,
state dict, hooks and results in evaluation mode do not change. `accelerate(model, False)` takes it back. Recipes do
this unless they have `fast=False`; on GPUs the layers compute as the library does, and under autocast all do but
convolutions to one pixel or from one.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from ..networks import Maxout
from .convolutions import FastConv2d, FastConvTranspose2d, is_fast

leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


class FastLinear(nn.Linear):
    """`nn.Linear` with few inputs. With transposed weights in memory, products take a fifth of the time."""

    def forward(self, v: Tensor) -> Tensor:
        return linear(v, self.weight.t().contiguous().t(), self.bias) if is_fast(self, v) else super().forward(v)


class _Largest(torch.autograd.Function):
    """The maximum over dimension 1. Equal pieces, which are rare in float32, all get the whole gradient; the library's
    `amax` divides it between them, which takes longer."""

    @staticmethod
    def forward(ctx, features: Tensor) -> Tensor:
        largest = features.amax(1)
        ctx.save_for_backward(features, largest)
        return largest

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        features, largest = ctx.saved_tensors
        with torch.no_grad():  # as floats, because a product with booleans is slow
            chosen = torch.eq(features, largest.unsqueeze(1), out=torch.empty_like(features))
        return chosen * gradient.unsqueeze(1) if torch.is_grad_enabled() else chosen.mul_(gradient.unsqueeze(1))


class FastMaxout(Maxout):
    def forward(self, features: Tensor) -> Tensor:
        if not is_fast(self, features):
            return super().forward(features)
        return _Largest.apply(features.unflatten(1, (self.pieces, -1)))


class FastDropout(nn.Dropout):
    """`nn.Dropout` with 16 random bits a number, so that `p` is a multiple of 1 / 65536: 0.2 becomes 0.199997."""

    def forward(self, x: Tensor) -> Tensor:
        return x * self.kept(x) if is_fast(self, x) else super().forward(x)

    def kept(self, x: Tensor) -> Tensor:
        """The mask by which dropout multiplies x: 0 or about 1 / (1 - p), in the shape and memory order of x."""
        dropped = round(self.p * 2**16)
        # PyTorch draws 64 bits as quickly as 16.
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = torch.empty_like(x)
        # In 32 bits where everything is dropped, because 2**15 does not fit into 16.
        draws = bits if dropped < 2**16 else bits.int()
        torch.ge(draws[: x.numel()], dropped - 2**15, out=kept.as_strided((x.numel(),), (1,)))
        return kept.mul_(2**16 / max(1, 2**16 - dropped))


# Their output is new memory. Other layers, subclasses of these too, may return their input or keep their output.
MAKERS = {nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d}
MAKERS |= {FastConv2d, FastConvTranspose2d, FastLinear}


class FastSequential(nn.Sequential):
    """`nn.Sequential` in which LeakyReLU overwrites the output of the layer before it, which is not needed again in
    training, and is merged with a dropout after it: both multiply. A layer with hooks is always called on its own, and
    neither its input nor its output is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        layers, ours = [*self], False  # ours: whether x may be overwritten
        while layers:
            layer = layers.pop(0)
            is_leaky = type(layer) is nn.LeakyReLU and layer.negative_slope >= 0  # PyTorch refuses others in place
            if ours and is_leaky and is_fast(layer, x) and not _is_hooked(layer):
                if layers and type(layers[0]) is FastDropout and is_fast(layers[0], x) and not _is_hooked(layers[0]):
                    kept = layers.pop(0).kept(x)  # times the slope, where x is below 0:
                    leaky_relu_backward(kept, x.detach(), layer.negative_slope, False, grad_input=kept)
                    x = x.mul_(kept)
                else:
                    x = leaky_relu(x, layer.negative_slope, inplace=True)
                ours = False
            else:
                x = layer(x)
                ours = type(layer) in MAKERS and not _is_hooked(layer)
        return x


def _is_hooked(layer: nn.Module) -> bool:
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return bool(own or nn.modules.module._has_any_global_hook())


QUICK = {
    nn.Conv2d: FastConv2d,
    nn.ConvTranspose2d: FastConvTranspose2d,
    nn.Linear: FastLinear,
    nn.Dropout: FastDropout,
    nn.Sequential: FastSequential,
    Maxout: FastMaxout,
}


def accelerate(model: nn.Module, fast: bool = True) -> nn.Module:
    """Makes the layers of a model quick, or with fast=False the library's again; returns the model.

    Only layers of exactly PyTorch's classes (and `Maxout`) change, if they have a quick form: convolutions need square
    kernels and no padding, dilation or groups. Other layers, such as subclasses of your own, do not change.
    """
    classes = QUICK if fast else {quick: plain for plain, quick in QUICK.items()}
    for layer in model.modules():
        if type(layer) in classes and _has_quick_form(layer):
            layer.__class__ = classes[type(layer)]
    return model


def _has_quick_form(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Linear):
        return layer.in_features < 16
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        square = layer.kernel_size[0] == layer.kernel_size[1] and layer.stride[0] == layer.stride[1]
        bare = layer.padding == (0, 0) and layer.dilation == (1, 1) and layer.groups == 1
        return square and bare and getattr(layer, "output_padding", (0, 0)) == (0, 0)
    return not getattr(layer, "inplace", False)
