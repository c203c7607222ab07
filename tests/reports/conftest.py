"""Fixtures that the tests of reports share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reports.drawing import without_pdfs


@pytest.fixture(scope="module")
def no_pdfs() -> Iterator[None]:
    """For modules that read a report's page and tables only."""
    with without_pdfs():
        yield
