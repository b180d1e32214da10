"""Finds images that are near-duplicates of an image of another set.

Shapes: N images, M others, T thumbnail side, F half of a thumbnail's values.
"""

import numpy as np
import numpy.typing as npt

from weights.thumbnails import SIDE

NEAR_CORRELATION = 0.95
"""Thumbnails with at least this correlation are near-duplicates.

Seen for a random tenth of each data set against the rest. CIFAR-10: 73 of 5,000 images have such a partner, and all
pairs looked at are one picture twice, tinted, cut or framed otherwise, or one model of car; from 0.92 to 0.94 some are
different pictures, from 0.90 to 0.92 most. Caltech-101: 17 of 440, one picture twice, many mirrored; from 0.90 to 0.95
mostly different objects. A quarter of Tiny ImageNet: 3 of 2,500, one of them a picture twice; the 18 from 0.90 to 0.95
are different ones, such as dark objects on white. A higher threshold would miss half of CIFAR-10's.
"""

_MIN_DEVIATION = 2.0  # of 255; noise and compression artefacts in a plain area
_ROWS_AT_A_TIME = 2048

_Floats = npt.NDArray[np.float32]


def near_duplicates(thumbnails: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether each image, or its mirror image, is a near-duplicate of any of the others.

    Shape: [N, 3, T, T], [M, 3, T, T] -> [N]
    """
    even_NF, odd_NF = _details(thumbnails)
    near = np.zeros(len(thumbnails), dtype=np.bool_)
    for start in range(0, len(others), _ROWS_AT_A_TIME):
        even_MF, odd_MF = _details(others[start : start + _ROWS_AT_A_TIME])
        # The odd part changes its sign in a mirror image, so this is the larger correlation of image and mirror image.
        correlation_NM = np.abs(odd_NF @ odd_MF.T)
        correlation_NM += even_NF @ even_MF.T
        near |= correlation_NM.max(axis=1) >= NEAR_CORRELATION
    return near


def _details(thumbnails: npt.NDArray[np.uint8]) -> tuple[_Floats, _Floats]:
    """Unit vectors of the channels without mean and slope, split into their even and odd parts.

    The slope is removed because all skies that brighten upwards would correlate. An image with less detail than noise
    has a shorter vector, so it is near to no other.

    Shape: [N, 3, T, T] -> [N, F], [N, F]
    """
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    plane = np.stack(np.broadcast_arrays(np.float32(1), ramp[:, None], ramp[None, :])).reshape(3, -1)
    plane /= np.linalg.norm(plane, axis=1, keepdims=True)
    flat = thumbnails.reshape(len(thumbnails), 3, SIDE**2).astype(np.float32)
    flat -= (flat @ plane.T) @ plane
    length = np.sqrt(np.square(flat).sum(axis=(1, 2), keepdims=True))
    flat /= np.maximum(length, _MIN_DEVIATION * np.sqrt(3 * SIDE**2))
    square = flat.reshape(thumbnails.shape) * np.float32(np.sqrt(0.5))
    left, right = square[..., : SIDE // 2], square[..., : SIDE // 2 - 1 : -1]
    shape = (len(square), 3 * SIDE**2 // 2)
    return (left + right).reshape(shape), (left - right).reshape(shape)
