"""Whether a network is compiled, on machines that can and machines that cannot."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.training import compiling
from pipeline.training.compiling import Compiled
from pipeline.training.loop import train
from tests.training.trainings import QUIET, SETS, assert_same_training, system

CPU = torch.device("cpu")
FAILURE = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})("Python.h not found\nmore")


def test_without_a_compiler_training_goes_on_with_one_line_of_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiling.dispatch, "available", lambda device: False)
    assert not compiling.choose_compile("auto", CPU, num_steps=10**6)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no C++ compiler" in caplog.text
    with pytest.raises(ModelError, match="--compile on: there is no C"):
        compiling.choose_compile("on", CPU, num_steps=10**6)


def test_short_trainings_are_not_compiled() -> None:
    assert not compiling.choose_compile("auto", CPU, num_steps=10)
    assert not compiling.choose_compile("off", CPU, num_steps=10**6)


class Backwards(torch.autograd.Function):
    """Passes a tensor on; its backward pass raises."""

    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_context: Any, *_gradients: Tensor) -> Tensor:
        raise FAILURE


def failing_compiler(call: int, pass_: str, error: Exception = FAILURE) -> Callable[..., Any]:
    """In place of ``torch.compile``: what it returns fails at its ``call``-th call, in the forward or the backward pass."""

    def compile_(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
        num_calls = 0

        def compiled(*arguments: Any) -> Any:
            nonlocal num_calls
            num_calls += 1
            if num_calls != call:
                return function(*arguments)
            if pass_ == "forward":
                raise error
            return Backwards.apply(function(*arguments))

        return compiled

    return compile_


def nothing() -> None:
    """Undo nothing."""


def test_where_compiling_fails_the_function_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", failing_compiler(2, "forward"))
    double = Compiled(lambda x: 2 * x, enabled=True)
    undone = []
    states = []
    for x in (1, 2, 3):
        assert double.with_fallback(lambda x=x: double(x), undo=lambda x=x: undone.append(x)) == 2 * x  # type: ignore[misc]
        states.append(double.compiled)
    assert states == [True, False, False]
    assert undone == [2]
    assert [record.getMessage().endswith("Python.h not found") for record in caplog.records] == [True]


@pytest.mark.parametrize(("call", "pass_"), [(1, "forward"), (1, "backward"), (2, "backward"), (3, "backward")])
def test_a_step_in_which_compiling_fails_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, call: int, pass_: str
) -> None:
    """A step has two parts: the second call fails when the first part's gradients are there, the third in the second step."""
    options = replace(QUIET, micro_batch=2)
    train(system(epochs=1), SETS, tmp_path / "plain", seed=1, options=options)
    monkeypatch.setattr(compiling, "choose_compile", lambda *_, **__: True)
    monkeypatch.setattr(torch, "compile", failing_compiler(call, pass_))
    train(system(epochs=1), SETS, tmp_path / "failed", seed=1, options=options)
    assert len(caplog.records) == 1
    assert_same_training(tmp_path / "plain", tmp_path / "failed")


@pytest.mark.parametrize("pass_", ["forward", "backward"])
@pytest.mark.parametrize("call", [1, 2])
def test_compile_on_insists_in_every_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: int, pass_: str) -> None:
    monkeypatch.setattr(compiling, "choose_compile", lambda *_, **__: True)
    monkeypatch.setattr(torch, "compile", failing_compiler(call, pass_))
    with pytest.raises(ModelError, match=r"--compile on: .*Python\.h not found\); use --compile off"):
        train(system(), SETS, tmp_path, seed=1, options=replace(QUIET, compile="on"))


@pytest.mark.parametrize("error", [ZeroDivisionError(), torch.OutOfMemoryError()])
def test_errors_of_the_function_itself_are_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(torch, "compile", failing_compiler(1, "forward", error))
    compiled = Compiled(lambda x: x, enabled=True)
    with pytest.raises(type(error)):
        compiled.with_fallback(lambda: compiled(1), undo=nothing)


def test_errors_of_a_function_that_is_not_compiled_are_its_own() -> None:
    def broken(x: int) -> int:
        raise FAILURE

    plain = Compiled(broken, enabled=False)
    with pytest.raises(type(FAILURE)):
        plain.with_fallback(lambda: plain(1), undo=nothing)


@pytest.mark.parametrize(("graphs", "mode"), [(False, "default"), (True, "reduce-overhead")])
def test_graphs_are_asked_of_the_compiler(monkeypatch: pytest.MonkeyPatch, graphs: bool, mode: str) -> None:
    asked: list[dict[str, object]] = []

    def compile_(function: object, **options: object) -> object:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    double = Compiled(lambda x: 2 * x, enabled=True, graphs=graphs)
    assert (double(1), double(2)) == (2, 4)
    assert asked == [{"dynamic": False, "mode": mode}]


def test_what_the_recipe_decides_is_no_warning() -> None:
    """torch advises TF32 whenever it compiles for a card that has it."""
    advice = "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled. Consider setting `…`"
    with pytest.raises(UserWarning, match="TensorFloat32"):
        warnings.warn(advice, UserWarning, stacklevel=1)
    Compiled(len, enabled=True)._compile()
    warnings.warn(advice, UserWarning, stacklevel=1)


def test_what_cuda_refuses_while_a_graph_is_recorded_is_a_failure_to_compile() -> None:
    """Such an error is a plain RuntimeError: only the calls that led to it tell where it comes from."""
    from torch._inductor import cudagraph_trees

    def record() -> None:
        code = compile("def _record():\n    raise RuntimeError('operation not permitted')\n", cudagraph_trees.__file__, "exec")
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        namespace["_record"]()

    num_calls = 0

    def work() -> int:
        nonlocal num_calls
        num_calls += 1
        return record() or 0 if num_calls == 1 else 7

    assert Compiled(lambda x: x, enabled=True).with_fallback(work, undo=nothing) == 7
    assert hasattr(cudagraph_trees.CUDAGraphNode, "_record"), "torch records graphs elsewhere now"
