"""The version of this package."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The installed version; "unknown" where the package is not installed."""
    try:
        return metadata.version("rgsud-fast")
    except metadata.PackageNotFoundError:
        return "unknown"
