"""What the tests share: where real speech lies, if anywhere."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora and oracle values; without TASNET_CORPORA the test is skipped."""
    folder = os.environ.get("TASNET_CORPORA")
    if not folder:
        pytest.skip("TASNET_CORPORA is not set: no real speech at hand")
    return Path(folder).resolve()
