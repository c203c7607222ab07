"""Fixtures that the tests of mixtures share."""

from __future__ import annotations

import pytest

from tests.mixtures.small_corpus import Corpus, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The small corpus: (root, manifest)."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
