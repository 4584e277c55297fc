"""Derainers, and the layouts in which others publish their weights."""
