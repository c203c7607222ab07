"""Reports whose figures nobody looks at: without the PDF files, which take longer than all the rest of a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from pipeline.reports import canvas


@contextmanager
def without_pdfs() -> Iterator[None]:
    """Figures are drawn and shown on the page; the PDF files beside it hold nothing."""
    with mock.patch.object(canvas, "_pdf", lambda figure: b""):
        yield
