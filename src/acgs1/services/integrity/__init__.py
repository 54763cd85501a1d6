"""The integrity service: the transparency log, evidence, appeals."""
