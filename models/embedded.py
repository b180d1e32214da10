"""What an embedding makes of an image."""

from typing import NamedTuple

from torch import Tensor


class Embedded(NamedTuple):
    """The same for every way of embedding.

    Attributes:
        tokens_BND: [B, G², D], in raster order.
        features_BF: of the whole image, for the exit; None where the way of embedding has none.
    """

    tokens_BND: Tensor
    features_BF: Tensor | None = None
