"""Whether a network is compiled, on machines that can and machines that cannot."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.training import compiling

CPU = torch.device("cpu")


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


def raising(error: Exception) -> object:
    def compile_(function: object, **options: object) -> object:
        def fail(*arguments: object) -> object:
            raise error

        return fail

    return compile_


def test_where_compiling_fails_the_function_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failure = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})("Python.h not found\nmore")
    monkeypatch.setattr(torch, "compile", raising(failure))
    double = compiling.Compiled(lambda x: 2 * x, enabled=True)
    assert [double(1), double(2)] == [2, 4]
    assert [record.getMessage().endswith("Python.h not found") for record in caplog.records] == [True]
    with pytest.raises(ModelError, match=r"Python\.h not found"):
        compiling.Compiled(lambda x: 2 * x, enabled=True, strict=True)(1)


def test_errors_of_the_function_itself_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        compiling.Compiled(lambda x: x, enabled=True)(1)


@pytest.mark.parametrize(("graphs", "mode"), [(False, "default"), (True, "reduce-overhead")])
def test_graphs_are_asked_of_the_compiler(monkeypatch: pytest.MonkeyPatch, graphs: bool, mode: str) -> None:
    asked: list[dict[str, object]] = []

    def compile_(function: object, **options: object) -> object:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    double = compiling.Compiled(lambda x: 2 * x, enabled=True, graphs=graphs)
    assert (double(1), double(2)) == (2, 4)
    assert asked == [{"dynamic": False, "mode": mode}]
