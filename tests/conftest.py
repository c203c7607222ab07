"""What the tests share: where real speech lies, if anywhere; and that groups of tests are kept together."""

import os
import signal
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


# A shell lets what it starts in the background ignore Ctrl-C, and every program that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora and oracle values; without TASNET_CORPORA the test is skipped."""
    folder = os.environ.get("TASNET_CORPORA")
    if not folder:
        pytest.skip("TASNET_CORPORA is not set: no real speech at hand")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The CUDA device, or the one that TASNET_TEST_DEVICE names; without either the test is skipped."""
    if name := os.environ.get("TASNET_TEST_DEVICE"):
        return torch.device(name)
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device("cuda", 0)


def pytest_configure(config: pytest.Config) -> None:
    """Tests of a group share what is expensive: say so where they would be run apart."""
    grouped = config.getoption("dist", "no") == "loadgroup"
    if grouped and pytest.version_tuple >= (9, 2) and version("pytest-xdist").startswith("3.8."):
        raise pytest.UsageError("pytest-xdist 3.8 ignores the groups of tests under pytest 9.2: pip install 'pytest<9.2'")
