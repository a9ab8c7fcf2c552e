"""Fixtures of the tokenizer's tests."""

import pytest


@pytest.fixture(params=["spectral", "seanet"])
def encoder(request: pytest.FixtureRequest) -> str:
    """Every property holds for both encoders."""
    return request.param
