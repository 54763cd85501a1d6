"""An optimizer that was not initialized says what to call."""

import pytest

from acgs1.optimizer.service import NotInitialized, PerformanceOptimizer
from factories import settings


def test_cache_and_batches_are_there_after_initialize_only(tmp_path):
    optimizer = PerformanceOptimizer(settings(tmp_path))
    with pytest.raises(NotInitialized, match="initialize"):
        _ = optimizer.cache
    with pytest.raises(NotInitialized, match="initialize"):
        _ = optimizer.batches
