"""Potstill distils a large language model into a small one that its user owns."""

__version__ = "0.1.0"
