"""The kernels of CUDA cards, without a card: Triton's interpreter runs them, and its compiler makes code for several cards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models import build_model
from pipeline.models.kernels import dispatch
from pipeline.models.norms import NORMS
from pipeline.recipe.schema import Model
from pipeline.training.gradients import Loss

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]


def run(module: str, *arguments: str, **environment: str) -> str:
    """Run a module in a process of its own, since Triton decides when it is imported whether it interprets."""
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.slow
def test_every_norm_dilation_and_length_equals_float64() -> None:
    said = run("tests.models.interpreted", TRITON_INTERPRET="1")
    shares = {row["case"]: row["share"] for row in map(json.loads, said.splitlines())}
    controls = [shares.pop("control"), shares.pop("control: padding that counts")]
    assert len(shares) == 16
    assert {case: share for case, share in shares.items() if not share <= 1} == {}
    assert min(controls) > 1e3  # another dilation is noticed, and another end


# ---------------------------------------------------------------------------------------------------- for cards, without one
@pytest.mark.slow
def test_the_largest_passes_compile_for_every_card_and_fit_its_registers(tmp_path: Path) -> None:
    """The others, which are smaller, are compiled by the GPU kit."""
    cards, largest = ("80", "90", "120"), ("convolve_back_sums", "convolve", "merge_back", "add_up")
    said = run("tests.gpu.registers", ",".join(cards), *largest, TRITON_CACHE_DIR=str(tmp_path))
    for card in cards:
        spilled = [int(found) for found in re.findall(rf"sm_{card} .*stack (\d+),", said)]
        assert len(spilled) == 3 + len(NORMS)
        # Where the largest spills a few registers it is still faster than in shapes that spill none, as measured.
        assert spilled[0] <= 64, said
        assert not any(spilled[1:]), said


@pytest.mark.parametrize("norm", NORMS)
def test_a_compiler_keeps_the_kernels_and_takes_network_and_loss_as_one(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU in place of a card, by the CPU's kernels."""
    if not dispatch.available(torch.device("cpu")):
        pytest.skip("there is no C++ compiler for the kernels")
    monkeypatch.setattr(dispatch, "_COMPILED", ("cpu",))
    sizes = {"num_filters": 16, "hidden_channels": 8, "bottleneck_channels": 4, "skip_channels": 4, "blocks_per_repeat": 2}
    torch.manual_seed(0)
    model = build_model(Model.model_validate({**sizes, "num_repeats": 1, "norm": norm}))
    sources, lengths = torch.randn(2, 2, 800), torch.tensor([800, 500])
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph.print_readable(print_output=False))
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)  # type: ignore[operator]

    outcomes = []
    for compute in (
        Loss(model, torch.float32).compute,
        torch.compile(Loss(model, torch.float32).compute, backend=backend, fullgraph=True, dynamic=False),
    ):
        model.zero_grad()
        loss = compute(sources.sum(1), sources, lengths)
        loss.backward()
        outcomes.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for one, two in zip(*outcomes, strict=True):  # torch 2.11's compiler rounds otherwise
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert len(graphs) == 1
    assert graphs[0].count("torch.ops.tasnet.hidden") == 2
    assert graphs[0].count("torch.ops.tasnet.normalised") == 1


@pytest.mark.parametrize("changes", [{"kernel_size": 2}, {"kernel_size": 5}, {"hidden_channels": 8192}])
def test_what_the_kernels_are_not_written_for_is_left_to_the_definition(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "available", lambda device: True)
    sizes = {"num_filters": 16, "hidden_channels": 8, "bottleneck_channels": 4, "skip_channels": 4, "blocks_per_repeat": 1}
    model = build_model(Model.model_validate({**sizes, "num_repeats": 1, "causal": True, **changes})).to("meta")
    monkeypatch.setattr(dispatch, "_fit", lambda x, parameters, shapes, fit=dispatch._fit: fit(_AsCuda(x), parameters, shapes))
    block = next(iter(model.separator.blocks))  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "_suits", lambda x: True)
        assert dispatch.hidden(block, _AsCuda(torch.empty(1, 10, 4, device="meta"))) is None  # type: ignore[arg-type]


class _AsCuda:
    """A tensor that says it is on a card."""

    def __init__(self, tensor: Any) -> None:
        self.tensor, self.device, self.shape = tensor, torch.device("cuda", 0), tensor.shape
