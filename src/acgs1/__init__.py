"""ACGS-1: constitutional governance for AI agents."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("acgs-1")
except PackageNotFoundError:  # a source tree on sys.path without an installation
    __version__ = "0.0.0+source"
