"""The import path of the plan; the code is `acgs1.optimizer`."""

from acgs1.optimizer import AsyncBatchProcessor, IntelligentCache, get_performance_optimizer

__all__ = ["AsyncBatchProcessor", "IntelligentCache", "get_performance_optimizer"]
