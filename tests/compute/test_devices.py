"""The choice of device and arithmetic, on machines that have them and machines that do not."""

import pytest
import torch

from pipeline.compute import devices
from pipeline.errors import ModelError

CPU = torch.device("cpu")


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.choose_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert devices.choose_device("auto") == torch.device("cuda", 3)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="choose auto, cpu or cuda"):
        devices.choose_device(name)


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.choose_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(ModelError, match="finds 1 CUDA devices; use cpu"):
        devices.choose_device("cuda:1")


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16), ({"avx512_f": True}, torch.float32)],
)
def test_bfloat16_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert devices.choose_precision("auto", CPU) == expected
    assert devices.choose_precision("float32", CPU) == torch.float32
    assert devices.choose_precision("tf32", CPU) == torch.float32
    assert devices.choose_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_bfloat16_from_ampere_on(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.choose_precision("auto", torch.device("cuda", 0)) == expected


def test_autocast_reaches_matrix_products_only_when_it_is_to() -> None:
    ones = torch.ones(2, 2)
    with devices.autocast(CPU, torch.bfloat16):
        assert (ones @ ones).dtype == torch.bfloat16
    with devices.autocast(CPU, torch.float32):
        assert (ones @ ones).dtype == torch.float32


@pytest.mark.parametrize(
    ("precision", "kind", "expected"),
    [("tf32", "cuda", "high"), ("tf32", "cpu", "highest"), ("float32", "cuda", "highest"), ("auto", "cuda", "highest")],
)
def test_float32_products_are_exact_unless_tf32_is_asked_for(precision: devices.Precision, kind: str, expected: str) -> None:
    with devices.float32_products(precision, torch.device(kind)):
        assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_setting_of_the_caller_returns_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ZeroDivisionError), devices.float32_products("float32", CPU):
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_preparing_a_cuda_device_leaves_its_products_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    before = torch.get_num_threads()
    devices.prepare(torch.device("cuda", 0))
    torch.set_num_threads(before)
    assert torch.get_float32_matmul_precision() == "highest"


def test_peak_memory_is_plausible() -> None:
    assert 0.05 < devices.peak_memory_gib(CPU) < 1000


@pytest.mark.parametrize(
    ("asked", "kind", "cores", "expected"),
    [(None, "cpu", 16, 1), (None, "cuda", 16, 8), (None, "cuda", 4, 3), (0, "cuda", 16, 0)],
)
def test_batches_are_made_by_as_many_threads_as_the_device_can_use(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, kind: str, cores: int, expected: int
) -> None:
    monkeypatch.setattr(devices, "cpu_count", lambda: cores)
    assert devices.choose_loaders(asked, torch.device(kind)) == expected


def test_torchruns_thread_limit_is_not_the_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sets OMP_NUM_THREADS=1 for torch; the processes of a machine share its cores for their loaders."""
    monkeypatch.setattr(devices, "cpu_count", lambda: 16)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert devices.choose_loaders(None, torch.device("cuda")) == 3
