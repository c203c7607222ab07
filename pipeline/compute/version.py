"""The version of this package."""

from __future__ import annotations


def package_version() -> str:
    """The installed version, or a placeholder where the package is used without being installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tasnet-pipeline")
    except PackageNotFoundError:
        return "0+unknown"
