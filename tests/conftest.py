"""Shared fixtures: a tiny seeded cascade of each kind, and images the tests make themselves."""

import os

# Tiny models gain nothing by a second thread, which waits for the first one spinning. Before torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import ssl
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from cascades import TINY_CONFIGS, randomised

from models.cascade import Cascade
from models.config import CascadeConfig

# No test's server is to find, or leave, a configuration in the home of who runs it.
os.environ["DVT_CONFIG_STORE"] = "memory"

# Every `httpx.get` would read the certificates of all authorities anew, 40 ms of processor time.
ssl.create_default_context = cache(ssl.create_default_context)


@pytest.fixture(params=TINY_CONFIGS)
def tiny_config(request: pytest.FixtureRequest) -> CascadeConfig:
    return TINY_CONFIGS[request.param]


@pytest.fixture
def tiny_cascade(tiny_config: CascadeConfig) -> Cascade:
    return randomised(tiny_config)


@pytest.fixture
def make_pixels() -> Callable[[int, int], np.ndarray]:
    """`make_pixels(count, side)`: seeded uint8 images [count, 3, side, side]."""

    def make(count: int, side: int) -> np.ndarray:
        return np.random.default_rng(7).integers(0, 256, (count, 3, side, side), dtype=np.uint8)

    return make
