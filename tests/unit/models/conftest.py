"""What several tests of networks need."""

import logging
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet_tracing() -> Iterator[None]:
    """Torch's trace log is large, and pytest would keep all of it; and tracing warns of torch's own deprecations."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
