"""Convolutions that take less time on a processor than the library's, with the same results up to rounding.

A stride-1 correlation of n = m + r - 1 numbers with r weights gives m numbers. By definition that takes m r products.
But a correlation is the transpose of a product of polynomials, and polynomials can be multiplied by their values at n
points: n products, and sums with fixed factors around them,

    y = A ((G w) * (B x))          A (m, n), G (n, r), B (n, n)

(Toom 1963, Cook 1966; Winograd 1980; for networks Lavin and Gray 2016). In two dimensions, with 4x4 weights and tiles
of 5x5 pixels, 64 products replace 400. The sums are products with small fixed matrices, and what remains in the middle
is one matrix product over the channels for each of the n x n positions.

With stride s, the s x s pictures that hold every s-th pixel become channels (space to depth), and so do the weights;
these have stride 1. A transposed convolution is the adjoint of a convolution.
"""

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # where polynomials are evaluated, besides infinity; more cost digits
# The cost of the sums around the products, in products: for each position and channel, and for each weight.
SUMS, OF_WEIGHTS = 100, 32  # measured, on two cores
BLOCK = 64  # examples
KEPT = 2**24  # largest input whose transform is kept for the backward pass; computing it again takes less memory


@lru_cache
def transforms(side: int, taps: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, int]:
    """A (m, n), G (n, taps) and B (n, n), and how many tiles of m cover a row of `side` results.

    m gives the fewest products, and of equals the smallest rounding error.
    """
    largest = min(side, len(POINTS) + 2 - taps)
    m = min(range(1, largest + 1), key=lambda m: (-(-side // m) * (m + taps - 1), m))
    n = m + taps - 1

    def values(coefficients: int) -> Tensor:
        """A polynomial's values at n - 1 points, and at infinity, where only its highest coefficient counts."""
        points = torch.tensor(POINTS[: n - 1], dtype=torch.float64)[:, None]
        at_infinity = torch.zeros(1, coefficients, dtype=torch.float64)
        at_infinity[0, -1] = 1
        return torch.cat([points ** torch.arange(coefficients), at_infinity])

    b, g = torch.linalg.inv(values(n)).T, values(taps)
    # A factor moved from a row of B to the row of G does not change the product. With 1 for the highest coefficient, B
    # consists of sums of powers of 2, which are exact in float32.
    highest = torch.cat([b[:-1, -2], b[-1:, -1]])[:, None] if n > 1 else b
    found = (values(m).T, g * highest, b / highest)
    return *(matrix.to(dtype).contiguous() for matrix in found), -(-side // m)


@lru_cache
def _in_a_row(side: int, taps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A (side, n * tiles) and B (n * tiles, side + taps - 1) for all tiles of a row at once, position by position. The
    tiles overlap, and the last one may reach beyond the edge."""
    a, _, b, tiles = transforms(side, taps, dtype)
    m, n = a.shape
    wide_a, wide_b = a.new_zeros(tiles * m, n, tiles), b.new_zeros(n, tiles, tiles * m + taps - 1)
    for tile in range(tiles):
        wide_a[tile * m : (tile + 1) * m, :, tile] = a
        wide_b[:, tile, tile * m : tile * m + n] = b
    return wide_a.flatten(1)[:side].contiguous(), wide_b.flatten(0, 1)[:, : side + taps - 1].contiguous()


# Three operations from one trilinear form, <y, correlation of x with w>: x (P, H, H, N, C), w (r, r, C, K),
# y (P, S, S, N, K), with S = H - r + 1 and the examples in P blocks of N. Each is the derivative of the form by one of
# the three, so derivatives of any order exist. Intermediate results are those of one row of tiles of one block: few
# enough to stay in the cache.


def _weights(w: Tensor, g: Tensor) -> Tensor:
    """G w G', (n * n, C, K)."""
    return torch.matmul(g, (g @ w.flatten(1)).view(len(g), len(w), -1)).view(-1, *w.shape[2:])


def _compute(wanted: str, given: dict[str, Tensor], known: dict, keep: bool = False) -> dict[str, Tensor]:
    """Those of "x", "w" and "y" that are wanted, each from the other two, which are given.

    known  the transformed weights and tiles of an earlier call with `keep`, if they are few
    """
    x, w, y = map(given.get, "xwy")
    either = x if x is not None else y
    blocks, number = either.shape[0], either.shape[3]
    taps = len(w) if w is not None else x.shape[1] - y.shape[1] + 1
    side = y.shape[1] if y is not None else x.shape[1] - taps + 1
    channels = w.shape[2:] if w is not None else (x.shape[4], y.shape[4])
    a, g, b, tiles = transforms(side, taps, either.dtype)
    (m, n), (across_a, across_b) = a.shape, _in_a_row(side, taps, either.dtype)
    found = {}
    if "x" in wanted:
        found["x"] = either.new_empty(blocks, side + taps - 1, side + taps - 1, number, channels[0])
    if "y" in wanted:
        found["y"] = either.new_empty(blocks, side, side, number, channels[1])
    if "w" in wanted:
        products = either.new_empty(n * n, *channels)
    weights = known.get("w")
    if weights is None and found:
        weights = _weights(w, g)
    for block, tile in product(range(blocks), range(tiles)):
        of_x, of_y = slice(tile * m, tile * m + n), slice(tile * m, (tile + 1) * m)
        tx, ty = known.get(("x", block, tile)), known.get(("y", block, tile))
        if tx is None and ("y" in wanted or "w" in wanted):
            rows = x[block, of_x].flatten(1)
            tx = (b[:, : len(rows)] @ rows).view(n, side + taps - 1, -1)
            tx = torch.matmul(across_b, tx).view(n * n, -1, channels[0])
        if ty is None and ("x" in wanted or "w" in wanted):
            rows = y[block, of_y].flatten(1)
            ty = (a[: len(rows)].T @ rows).view(n, side, -1)
            ty = torch.matmul(across_a.T, ty).view(n * n, -1, channels[1])
        if keep and either.numel() <= KEPT:
            known.update({"w": weights, ("x", block, tile): tx, ("y", block, tile): ty})
        if "y" in wanted:
            made = torch.matmul(across_a, torch.bmm(tx, weights).view(n, len(across_b), -1))
            rows = found["y"][block, of_y].flatten(1)
            torch.mm(a[: len(rows)], made.flatten(1), out=rows)
        if "x" in wanted:
            made = torch.bmm(ty, weights.transpose(1, 2)).view(n, len(across_b), -1)
            made, rows = torch.matmul(across_b.T, made).flatten(1), found["x"][block, of_x].flatten(1)
            shared = taps - 1 if tile else 0  # rows that the tile before has too
            rows[:shared].addmm_(b[:, :shared].T, made)
            torch.mm(b[:, shared : len(rows)].T, made, out=rows[shared:])
        if "w" in wanted:
            products.baddbmm_(tx.transpose(1, 2), ty, beta=int(block + tile > 0))  # with 0 the old values do not count
    if "w" in wanted:
        found["w"] = (g.T @ torch.matmul(g.T, products.view(n, n, -1)).flatten(1)).view(taps, taps, *channels)
    return found


def _goes_on_into(node: torch.autograd.graph.Node) -> bool:
    """Whether this backward pass continues into the node. `needs_input_grad` says whether any pass may; the one for the
    generator needs no gradient of the discriminator's weights."""
    try:
        return torch._C._will_engine_execute_node(node)
    except (AttributeError, RuntimeError):  # not part of PyTorch's public interface; or a leaf whose gradient is needed
        return True


class Form(torch.autograd.Function):
    """One of "x", "w" and "y" from the other two, in this order: "y" is a convolution of x with w, "x" a transposed
    convolution of y with w, "w" the gradient of a convolution's weights."""

    @staticmethod
    def forward(ctx, name: str, *others: Tensor) -> Tensor:
        ctx.name, ctx.others, ctx.known = name, [other for other in "xwy" if other != name], {}
        ctx.save_for_backward(*others)
        return _compute(name, dict(zip(ctx.others, others, strict=True)), ctx.known, keep=True)[name]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given = dict(zip(ctx.others, ctx.saved_tensors, strict=True)) | {ctx.name: gradient.contiguous()}
        inputs = zip(ctx.others, ctx.needs_input_grad[1:], ctx.next_functions, strict=True)
        wanted = [name for name, need, (node, _) in inputs if need and _goes_on_into(node)]
        if torch.is_grad_enabled():  # one by one, for these have to be differentiable again
            found = {name: Form.apply(name, *(given[other] for other in "xwy" if other != name)) for name in wanted}
        else:
            found = _compute("".join(wanted), given, ctx.known)
        return None, *map(found.get, ctx.others)


def is_fast(layer: nn.Module, x: Tensor) -> bool:
    """Whether a layer computes the quick way: in training mode, on a processor, in float32 or float64. Otherwise, and
    under autocast, layers compute as the library does, except as `_is_plain` says."""
    on_processor = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return layer.training and on_processor and not torch.is_autocast_enabled("cpu")


def _taps(layer: nn.Module) -> int:
    """Weights in a row of the kernel, after space to depth."""
    return -(-layer.kernel_size[0] // layer.stride[0])


def _saves(layer: nn.Module, side: int, wide: int, narrow: int, number: int) -> bool:
    """Whether the transforms pay for `number` examples with `side` x `side` results, with `wide` channels on the side
    with more pixels and `narrow` ones on the other."""
    stride, taps = layer.stride[0], _taps(layer)
    if side == 1 or taps > len(POINTS):
        return False
    _, g, _, tiles = transforms(side, taps)
    channels, products = wide * stride**2 + narrow, wide * stride**2 * narrow
    positions = (len(g) * tiles) ** 2
    few = positions * (products + SUMS * channels) + OF_WEIGHTS * len(g) ** 2 * products / number
    return few < (side * taps) ** 2 * products


# Each of these two is the other's derivative. Autograd's own gradients would have a memory order in which earlier
# layers are slow.


class ToChannels(torch.autograd.Function):
    """(N, C, H, H) -> (P, side, side, N / P, s s C); cut off or padded with 0 to side * s pixels."""

    @staticmethod
    def forward(ctx, x: Tensor, stride: int, side: int, blocks: int) -> Tensor:
        ctx.stride, ctx.size = stride, x.shape[2]
        if missing := max(0, side * stride - ctx.size):
            x = pad(x, (0, missing, 0, missing))
        x = x[:, :, : side * stride, : side * stride].permute(0, 2, 3, 1)
        x = x.reshape(blocks, -1, side, stride, side, stride, x.shape[3]).permute(0, 2, 4, 1, 3, 5, 6)
        return x.reshape(blocks, side, side, x.shape[3], -1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ToPixels.apply(gradient, ctx.stride, ctx.size), None, None, None


class ToPixels(torch.autograd.Function):
    """The inverse, (P, S, S, N / P, s s C) -> (N, C, size, size) in channels_last."""

    @staticmethod
    def forward(ctx, x: Tensor, stride: int, size: int) -> Tensor:
        ctx.stride, ctx.side, ctx.blocks = stride, x.shape[1], len(x)
        y = x.unflatten(4, (stride, stride, -1)).permute(0, 3, 1, 4, 2, 5, 6)
        y = y.reshape(-1, ctx.side * stride, ctx.side * stride, y.shape[6]).permute(0, 3, 1, 2)[:, :, :size, :size]
        if missing := size - y.shape[2]:
            y = pad(y, (0, missing, 0, missing))
        y = y.contiguous(memory_format=torch.channels_last)
        # Not a view: the next layer could not write over a function's view.
        return y.clone() if y.data_ptr() == x.data_ptr() else y.data

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ToChannels.apply(gradient, ctx.stride, ctx.side, ctx.blocks), None, None


def _blocks(number: int, side: int, taps: int) -> int:
    """The number of equal blocks of at most `BLOCK` examples; 1 where there are none, or for a single tile, for which
    weights are most of the memory traffic."""
    tiles = transforms(side, taps)[3]
    fitting = [size for size in range(BLOCK // 2, BLOCK + 1) if number % size == 0]
    return number // fitting[-1] if fitting and tiles > 1 else 1


def _few_taps(weight: Tensor, stride: int, taps: int) -> Tensor:
    """Weights (K, C, k, k) -> (taps, taps, s s C, K), for pictures after space to depth."""
    if missing := taps * stride - weight.shape[2]:
        weight = pad(weight, (0, missing, 0, missing))
    weight = weight.permute(2, 3, 1, 0).unflatten(1, (taps, stride)).unflatten(0, (taps, stride))
    return weight.permute(0, 2, 1, 3, 4, 5).reshape(taps, taps, -1, weight.shape[5])


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, size: int) -> bool:
    """Whether the library computes this input: always where it is not square, or smaller than `size`. Of just that size
    one side of the layer is one pixel: a product is quicker under autocast too, ten times where a processor has AMX."""
    if x.ndim != 4 or not len(x) or x.shape[2] != x.shape[3] or x.shape[2] < size:
        return True
    if is_fast(layer, x):
        return False
    return not (x.shape[2] == size and layer.training and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"))


class FastConv2d(nn.Conv2d):
    """`nn.Conv2d` without padding, with square kernels."""

    def forward(self, x: Tensor) -> Tensor:
        if _is_plain(self, x, self.kernel_size[0]):
            return super().forward(x)
        size, stride, taps = x.shape[2], self.stride[0], _taps(self)
        side = (size - self.kernel_size[0]) // stride + 1
        if self.kernel_size[0] == size:  # one pixel is left: a linear layer
            x, weight = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (x, self.weight))
            return linear(x, weight, self.bias)[:, :, None, None]
        if not _saves(self, side, self.in_channels, self.out_channels, len(x)):
            return super().forward(x)
        x = ToChannels.apply(x, stride, side + taps - 1, _blocks(len(x), side, taps))
        y = ToPixels.apply(Form.apply("y", x, _few_taps(self.weight, stride, taps)), 1, side)
        return y if self.bias is None else y + self.bias[:, None, None]


class FastConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` without padding, with square kernels."""

    def forward(self, y: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or _is_plain(self, y, 1):
            return super().forward(y, output_size)
        side, stride, taps = y.shape[2], self.stride[0], _taps(self)
        if side == 1:  # from one pixel: a linear layer
            weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
            x = linear(y.flatten(1), weight).unflatten(1, (*self.kernel_size, -1)).permute(0, 3, 1, 2)
        elif _saves(self, side, self.out_channels, self.in_channels, len(y)):
            weight = _few_taps(self.weight, stride, taps)
            y = ToChannels.apply(y, 1, side, _blocks(len(y), side, taps))
            x = ToPixels.apply(Form.apply("x", weight, y), stride, (side - 1) * stride + self.kernel_size[0])
        else:
            return super().forward(y)
        return x if self.bias is None else x + self.bias.to(x.dtype)[:, None, None]
