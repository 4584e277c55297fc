"""Images of a sweep, and a scorer that likes them dark."""

from __future__ import annotations

import pytest
from sweeps import rainy_images

from rgsud_fast.iqa import make_scorer


@pytest.fixture
def rainy():
    return rainy_images()


@pytest.fixture
def darkness(rainy):
    return make_scorer(lambda images: -images.mean(dim=(1, 2, 3)), rainy, rainy)
