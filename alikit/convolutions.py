"""Convolutions and dropout that take a processor less time than the library's, with the same results but for rounding.

A stride-1 correlation of n = m + r - 1 numbers with r weights gives m numbers. By its definition that takes m r
products. But it is a product of polynomials read backwards, and polynomials are multiplied by their values at n points:
n products, and sums with fixed factors around them,

    y = A ((G w) * (B x))          A (m, n), G (n, r), B (n, n)

(Toom 1963, Cook 1966; Winograd 1980; for networks Lavin and Gray 2016). In two dimensions, with 4x4 weights and tiles
of 5x5 pixels, 64 products take the place of 400. The sums are products with small fixed matrices, and what is left in
the middle is one matrix product over the channels for each of the n x n positions.

A stride s is none for the s x s pictures that hold every s-th pixel: they become channels (space to depth), and weights
likewise. A transposed convolution is the adjoint of a convolution. All are layers of PyTorch with another `forward`:
weights, gradients, state and use are the same.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, pad

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # where polynomials are evaluated, besides infinity; more cost digits
# What the sums around the products cost, as so many products: for a position and channel; for one of its weights.
SUMS, OF_WEIGHTS = 64, 32  # measured


@lru_cache
def transforms(side: int, taps: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, int]:
    """A (m, n), G (n, taps) and B (n, n), and how many tiles of m cover `side` results in a row.

    m is what makes the fewest products; of equals the smallest, which rounds the least.
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
    # What is taken from a row of B and given to G's leaves the product alone: with 1 for the highest coefficient, B is
    # made of sums of powers of 2, which float32 knows exactly.
    highest = torch.cat([b[:-1, -2], b[-1:, -1]])[:, None] if n > 1 else b
    found = (values(m).T, g * highest, b / highest)
    return *(matrix.to(dtype).contiguous() for matrix in found), -(-side // m)


@lru_cache
def _in_a_row(side: int, taps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A (side, n * tiles) and B (n * tiles, side + taps - 1) for all the tiles of a row at once, position by position:
    the tiles overlap, and the last may reach beyond the edge."""
    a, _, b, tiles = transforms(side, taps, dtype)
    m, n = a.shape
    wide_a, wide_b = a.new_zeros(tiles * m, n, tiles), b.new_zeros(n, tiles, tiles * m + taps - 1)
    for tile in range(tiles):
        wide_a[tile * m : (tile + 1) * m, :, tile] = a
        wide_b[:, tile, tile * m : tile * m + n] = b
    return wide_a.flatten(1)[:side].contiguous(), wide_b.flatten(0, 1)[:, : side + taps - 1].contiguous()


# The three readings of one form, <y, correlation of x with w>: x (H, H, N, C), w (r, r, C, K), y (S, S, N, K), with
# S = H - r + 1. Each is what the other two have for a derivative, so any number of derivatives can be had.
# One row of tiles after the other, which keeps what is in between small.


def _weights(w: Tensor, g: Tensor) -> Tensor:
    """G w G', (n * n, C, K)."""
    return torch.matmul(g, (g @ w.flatten(1)).view(len(g), len(w), -1)).view(-1, *w.shape[2:])


def _of_x(x: Tensor, tile: int, side: int, taps: int) -> Tensor:
    """B x B' of one row of tiles, (n * n, tiles * N, C)."""
    a, _, b, _ = transforms(side, taps, x.dtype)
    rows = x[tile * len(a) : tile * len(a) + len(b)]
    found = (b[:, : len(rows)] @ rows.flatten(1)).view(len(b), x.shape[1], -1)
    return torch.matmul(_in_a_row(side, taps, x.dtype)[1], found).view(len(b) ** 2, -1, x.shape[3])


def _of_y(y: Tensor, tile: int, side: int, taps: int) -> Tensor:
    """A' y A of one row of tiles, (n * n, tiles * N, K)."""
    a, _, b, _ = transforms(side, taps, y.dtype)
    rows = y[tile * len(a) : (tile + 1) * len(a)]
    found = (a[: len(rows)].T @ rows.flatten(1)).view(len(b), y.shape[1], -1)
    return torch.matmul(_in_a_row(side, taps, y.dtype)[0].T, found).view(len(b) ** 2, -1, y.shape[3])


class Correlation(torch.autograd.Function):
    """y from x and w."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        taps, number = len(w), x.shape[2]
        side = len(x) - taps + 1
        a, g, b, tiles = transforms(side, taps, x.dtype)
        weights, across = _weights(w, g), _in_a_row(side, taps, x.dtype)[0]
        y = x.new_empty(side, side, number, w.shape[3])
        for tile in range(tiles):
            products = torch.bmm(_of_x(x, tile, side, taps), weights)
            rows = y[tile * len(a) : (tile + 1) * len(a)]
            found = torch.matmul(across, products.view(len(b), across.shape[1], -1))
            torch.mm(a[: len(rows)], found.flatten(1), out=rows.flatten(1))
        return y

    @staticmethod
    def backward(ctx, of_y: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, w = ctx.saved_tensors
        of_y = of_y.contiguous()
        needs_x, needs_w = ctx.needs_input_grad
        return Adjoint.apply(of_y, w) if needs_x else None, Products.apply(x, of_y) if needs_w else None


class Adjoint(torch.autograd.Function):
    """x from y and w: what a transposed convolution computes."""

    @staticmethod
    def forward(ctx, y: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(y, w)
        taps, side = len(w), len(y)
        a, g, b, tiles = transforms(side, taps, y.dtype)
        weights, across = _weights(w, g).transpose(1, 2), _in_a_row(side, taps, y.dtype)[1]
        x = y.new_empty(side + taps - 1, side + taps - 1, y.shape[2], w.shape[2])
        for tile in range(tiles):
            products = torch.bmm(_of_y(y, tile, side, taps), weights)
            rows = x[tile * len(a) : tile * len(a) + len(b)].flatten(1)
            found = torch.matmul(across.T, products.view(len(b), len(across), -1)).flatten(1)
            shared = taps - 1 if tile else 0  # with the tiles before
            rows[:shared].addmm_(b[:, :shared].T, found)
            torch.mm(b[:, shared : len(rows)].T, found, out=rows[shared:])
        return x

    @staticmethod
    def backward(ctx, of_x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y, w = ctx.saved_tensors
        of_x = of_x.contiguous()
        needs_y, needs_w = ctx.needs_input_grad
        return Correlation.apply(of_x, w) if needs_y else None, Products.apply(of_x, y) if needs_w else None


class Products(torch.autograd.Function):
    """w from x and y: the gradient of a convolution's weights."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        side, taps = len(y), len(x) - len(y) + 1
        _, g, b, tiles = transforms(side, taps, x.dtype)
        found = x.new_empty(len(b) ** 2, x.shape[3], y.shape[3])
        for tile in range(tiles):
            of_x, of_y = _of_x(x, tile, side, taps), _of_y(y, tile, side, taps)
            found.baddbmm_(of_x.transpose(1, 2), of_y, beta=min(tile, 1))  # with beta 0 what was there is not read
        found = torch.matmul(g.T, found.view(len(b), len(b), -1))
        return (g.T @ found.flatten(1)).view(taps, taps, x.shape[3], y.shape[3])

    @staticmethod
    def backward(ctx, of_w: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        of_w = of_w.contiguous()
        needs_x, needs_y = ctx.needs_input_grad
        return Adjoint.apply(y, of_w) if needs_x else None, Correlation.apply(x, of_w) if needs_y else None


class Quick:
    """What the layers below share: where `quick` is False they compute as the library does, see `plain`."""

    quick = True
    kernel_size: tuple[int, int]
    stride: tuple[int, int]

    def _is_quick(self, x: Tensor) -> bool:
        """In training and on a processor, in float32 or more; questions are answered by the library's layers."""
        ours = self.quick and self.training and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
        return ours and not torch.is_autocast_enabled("cpu")

    def _saves(self, side: int, wide: int, narrow: int, number: int) -> bool:
        """Whether all this pays, for `side` x `side` results of so many examples, `wide` channels where pixels are more
        and `narrow` ones where they are fewer."""
        stride, taps = self._taps()
        if side == 1 or taps > len(POINTS):
            return False
        _, g, _, tiles = transforms(side, taps)
        channels, products = wide * stride**2 + narrow, wide * stride**2 * narrow
        positions = (len(g) * tiles) ** 2
        few = positions * (products + SUMS * channels) + OF_WEIGHTS * len(g) ** 2 * products / number
        return few < (side * taps) ** 2 * products

    def _taps(self) -> tuple[int, int]:
        """Stride, and weights in a row for each of the pictures that it makes of one."""
        return self.stride[0], -(-self.kernel_size[0] // self.stride[0])


def _to_channels(x: Tensor, stride: int, side: int) -> Tensor:
    """(N, C, H, H) -> (side, side, N, s s C); what lies beyond is cut off, what is missing is 0."""
    if missing := max(0, side * stride - x.shape[2]):
        x = pad(x, (0, missing, 0, missing))
    x = x[:, :, : side * stride, : side * stride].permute(2, 3, 0, 1)
    x = x.reshape(side, stride, side, stride, *x.shape[2:]).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(side, side, x.shape[2], -1)


def _to_pixels(x: Tensor, stride: int, size: int) -> Tensor:
    """The way back, (S, S, N, s s C) -> (N, C, size, size) in channels_last."""
    side, number = len(x), x.shape[2]
    x = x.unflatten(3, (stride, stride, -1)).permute(2, 0, 3, 1, 4, 5)
    x = x.reshape(number, side * stride, side * stride, -1).permute(0, 3, 1, 2)[:, :, :size, :size]
    if missing := size - x.shape[2]:
        x = pad(x, (0, missing, 0, missing))
    return x.contiguous(memory_format=torch.channels_last)


# As functions with the other for a derivative: otherwise gradients would come in an order of memory in which the layers
# before are slow.


class ToChannels(torch.autograd.Function):
    """`_to_channels`."""

    @staticmethod
    def forward(ctx, x: Tensor, stride: int, side: int) -> Tensor:
        ctx.stride, ctx.size = stride, x.shape[2]
        return _to_channels(x, stride, side)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ToPixels.apply(gradient, ctx.stride, ctx.size), None, None


class ToPixels(torch.autograd.Function):
    """`_to_pixels`."""

    @staticmethod
    def forward(ctx, x: Tensor, stride: int, size: int) -> Tensor:
        ctx.stride, ctx.side = stride, len(x)
        return _to_pixels(x, stride, size)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ToChannels.apply(gradient, ctx.stride, ctx.side), None, None


def _few_taps(weight: Tensor, stride: int, taps: int) -> Tensor:
    """Weights (K, C, k, k) -> (taps, taps, s s C, K), for pictures whose strides are channels."""
    if missing := taps * stride - weight.shape[2]:
        weight = pad(weight, (0, missing, 0, missing))
    weight = weight.permute(2, 3, 1, 0).unflatten(1, (taps, stride)).unflatten(0, (taps, stride))
    return weight.permute(0, 2, 1, 3, 4, 5).reshape(taps, taps, -1, weight.shape[5])


class Convolution(Quick, nn.Conv2d):
    """`nn.Conv2d` without padding, with square kernels."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._is_quick(x) or x.shape[2] != x.shape[3]:
            return super().forward(x)
        size, (stride, taps) = x.shape[2], self._taps()
        side = (size - self.kernel_size[0]) // stride + 1
        if self.kernel_size[0] == size:  # one pixel is left: a linear layer
            x, weight = (tensor.permute(0, 2, 3, 1).flatten(1) for tensor in (x, self.weight))
            return linear(x, weight, self.bias)[:, :, None, None]
        if not self._saves(side, self.in_channels, self.out_channels, len(x)):
            return super().forward(x)
        x = ToChannels.apply(x, stride, side + taps - 1)
        y = ToPixels.apply(Correlation.apply(x, _few_taps(self.weight, stride, taps)), 1, side)
        return y if self.bias is None else y + self.bias[:, None, None]


class Transposed(Quick, nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` without padding, with square kernels."""

    def forward(self, y: Tensor) -> Tensor:
        if not self._is_quick(y) or y.shape[2] != y.shape[3]:
            return super().forward(y)
        side, (stride, taps) = y.shape[2], self._taps()
        if side == 1:  # from one pixel: a linear layer
            weight = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
            x = linear(y.flatten(1), weight).unflatten(1, (*self.kernel_size, -1)).permute(0, 3, 1, 2)
        elif self._saves(side, self.out_channels, self.in_channels, len(y)):
            y, weight = ToChannels.apply(y, 1, side), _few_taps(self.weight, stride, taps)
            x = ToPixels.apply(Adjoint.apply(y, weight), stride, (side - 1) * stride + self.kernel_size[0])
        else:
            return super().forward(y)
        return x if self.bias is None else x + self.bias[:, None, None]


class Dropout(Quick, nn.Dropout):
    """`nn.Dropout` whose coins are 16 bits each, so that `p` is a whole number of 65536ths: 0.2 becomes 0.199997."""

    def forward(self, x: Tensor) -> Tensor:
        lost = round(self.p * 2**16)
        if not self._is_quick(x) or lost == 2**16:
            return dropout(x, self.p, self.training)
        # PyTorch draws a number of 64 bits as quickly as one for each coin.
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = torch.empty_like(x)  # in the memory order of x
        flat = kept.as_strided((x.numel(),), (1,))
        torch.ge(bits[: x.numel()], lost - 2**15, out=flat)
        return x * kept.mul_(2**16 / (2**16 - lost))


def plain(network: nn.Module) -> nn.Module:
    """Makes the layers of a network compute as the library's do; returns the network."""
    for layer in network.modules():
        if isinstance(layer, Quick):
            layer.quick = False
    return network
