"""The result of an embedding."""

from typing import NamedTuple

from torch import Tensor


class Embedded(NamedTuple):
    """Tokens and pooled features; every embedding returns this type.

    Attributes:
        tokens_BND: [B, G², D], in raster order.
        features_BF: pooled features of the whole image for the exit; None when the embedding has none.
    """

    tokens_BND: Tensor
    features_BF: Tensor | None = None
