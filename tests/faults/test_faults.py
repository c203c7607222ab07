"""A few faults in system calls, after each of which the same command ends in the same bytes; many more: ``make faults``."""

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.injecting import Ground, results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("faults"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]
SEEDS = 5
IN_SHORT = ("pack", "train:noncausal")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("ground"), IN_SHORT)
    yield made
    made.nursery.close()


@pytest.mark.parametrize("target", IN_SHORT)
def test_after_a_fault_the_same_command_ends_in_the_same_bytes(ground: Ground, target: str) -> None:
    faults = [ground.fault(target, seed) for seed in range(SEEDS)]
    assert [fault for fault in faults if fault.wrong] == []
    assert any(fault.code for fault in faults)  # some were noticed


def test_negative_control_other_results_are_noticed(ground: Ground) -> None:
    work = ground.folder / "changed"
    shutil.copytree(ground.folder / "done-pack", work)
    assert results(work) == results(ground.folder / "done-pack")
    mixture = next(iter(sorted(work.glob("mix/*/**/*.wav"))))
    mixture.write_bytes(mixture.read_bytes()[:-1] + b"\1")
    assert results(work) != results(ground.folder / "done-pack")
