"""Galleries: what a run, or a derained folder, looks like, in one HTML file."""

from .page import Comparison, Panel, Row, comparisons, curves, facts, figures, rows, write_gallery

__all__ = [
    "Comparison",
    "Panel",
    "Row",
    "comparisons",
    "curves",
    "facts",
    "figures",
    "rows",
    "write_gallery",
]
