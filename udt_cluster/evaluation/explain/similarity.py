"""Linear CKA of two features, from sums: exact whatever the batches, in memory that does not grow with the data.

Centred kernel alignment (Kornblith et al. 2019, https://arxiv.org/abs/1905.00414) with the unbiased estimator of HSIC
(Song et al. 2012, https://jmlr.org/papers/v13/song12a.html, equation 5), which Nguyen et al. 2021
(https://arxiv.org/abs/2010.15327) average over batches. With linear kernels K = X X^T and L = Y Y^T all its terms are
sums over examples: with a_i = |x_i|^2, b_i = |y_i|^2 and K', L' without their diagonals,

    tr K'L'     = |X^T Y|_F^2 - sum a_i b_i
    1^T K' 1    = |sum x_i|^2 - sum a_i
    1^T K'L' 1  = s_x^T (X^T Y) s_y - s_x . (sum x_i b_i) - s_y . (sum y_i a_i) + sum a_i b_i

so that no n x n matrix is made and nothing is averaged over batches. An example is a place of an image.
"""

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

_ROUNDING = 1e-13


@dataclass(frozen=True)
class HSICSums:
    """The sums over examples from which HSIC of two features follows.

    Attributes:
        n: Examples.
        cross: X^T Y, (C_x, C_y) float64.
        x: Sum of x_i; y likewise.
        y: See x.
        x_b: Sum of x_i |y_i|^2; y_a of y_i |x_i|^2.
        y_a: See x_b.
        a: Sum of |x_i|^2; b of |y_i|^2; ab of their products.
        b: See a.
        ab: See a.
    """

    n: Tensor
    cross: Tensor
    x: Tensor
    y: Tensor
    x_b: Tensor
    y_a: Tensor
    a: Tensor
    b: Tensor
    ab: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Self:
        """Sums of x (n, C_x) and y (n, C_y), float64."""
        a, b = x.square().sum(1), y.square().sum(1)
        n = torch.tensor(float(len(x)), dtype=x.dtype, device=x.device)
        return cls(n, x.T @ y, x.sum(0), y.sum(0), x.T @ b, y.T @ a, a.sum(), b.sum(), a @ b)

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def hsic(self) -> float:
        """The unbiased estimate; NaN for less than four examples."""
        n = float(self.n)
        if n < 4:
            return math.nan
        trace = self.cross.square().sum() - self.ab
        corners = (self.x @ self.x - self.a) * (self.y @ self.y - self.b) / ((n - 1) * (n - 2))
        middle = self.x @ self.cross @ self.y - self.x @ self.x_b - self.y @ self.y_a + self.ab
        return float((trace + corners - 2 / (n - 2) * middle) / (n * (n - 3)))


@dataclass(frozen=True)
class CKASums:
    """The sums from which the linear CKA of two features follows; those of several batches are added."""

    xx: HSICSums
    yy: HSICSums
    xy: HSICSums

    @classmethod
    def of(cls, x_BCHW: Tensor, y_BCHW: Tensor) -> Self:
        """Sums over all places of all images of a batch; both features have the same B, H and W."""
        x, y = (feature.to(torch.float64).movedim(1, -1).flatten(0, -2) for feature in (x_BCHW, y_BCHW))
        return cls(*(HSICSums.of(one, other) for one, other in ((x, x), (y, y), (x, y))))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.xx + other.xx, self.yy + other.yy, self.xy + other.xy)

    def value(self) -> float:
        """CKA: 1 for features that are the same up to rotation and scale, about 0 for unrelated ones.

        An estimate of a value near 0 can be negative. NaN where a feature is constant, or there are too few examples.
        """
        xx, yy = self.xx.hsic(), self.yy.hsic()
        if not (xx > _constant(self.xx) and yy > _constant(self.yy)):
            return math.nan
        return self.xy.hsic() / math.sqrt(xx * yy)


def _constant(sums: HSICSums) -> float:
    """What rounding can leave of a feature's own HSIC when it is the same for all examples."""
    return _ROUNDING * float(sums.a / sums.n.clamp(min=1)) ** 2
