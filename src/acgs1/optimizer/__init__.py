"""The performance optimizer: caching in three levels, batching and group commit."""

from acgs1.optimizer.batching import AsyncBatchProcessor, GroupCommit, KeyedBatcher
from acgs1.optimizer.cache import IntelligentCache
from acgs1.optimizer.policy import CachePolicy
from acgs1.optimizer.service import PerformanceOptimizer, get_performance_optimizer

__all__ = [
    "AsyncBatchProcessor",
    "CachePolicy",
    "GroupCommit",
    "IntelligentCache",
    "KeyedBatcher",
    "PerformanceOptimizer",
    "get_performance_optimizer",
]
