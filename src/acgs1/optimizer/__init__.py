"""The performance optimizer: caching, batching, adaptive TTLs, measured pools."""
