"""Native decoding needs compiled kernels."""

import pytest

from dragoman.kernels.library import kernels


@pytest.fixture(autouse=True)
def _only_with_kernels() -> None:
    if kernels() is None:
        pytest.skip("there are no native kernels here")
