"""The web page of `rgsud-fast demo`: one photograph before and after, and the gallery of the run."""

from .server import serve

__all__ = ["serve"]
