"""Which weights which optimiser moves, and that a kept state goes on with the same bits."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Muon

from pipeline.models import build_model
from pipeline.models.conv_tasnet import ConvTasNet
from pipeline.recipe.schema import Train
from pipeline.training.optimisers import MUON_RATIO, BatchedMuon, Optimiser

SMALL = {"num_filters": 16, "bottleneck_channels": 8, "skip_channels": 8, "hidden_channels": 16, "blocks_per_repeat": 2}


def model(seed: int = 0) -> ConvTasNet:
    torch.manual_seed(seed)
    return build_model(**SMALL, num_repeats=1)


def give_gradients(network: ConvTasNet, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def steps(network: ConvTasNet, settings: Train) -> dict[str, torch.Tensor]:
    """How far one step moves every weight."""
    before = copy.deepcopy(network.state_dict())
    optimiser = Optimiser(network, settings)
    give_gradients(network)
    optimiser.step()
    return {name: value - before[name] for name, value in network.state_dict().items()}


def test_muon_moves_inner_matrices_orthogonally_and_adam_the_rest() -> None:
    rate = 1e-3
    moved = steps(model(), Train(optimiser="muon", learning_rate=rate))
    by_adam = steps(model(), Train(optimiser="adam", learning_rate=rate))
    for name, step in moved.items():
        inner = "weight" in name and any(part in name for part in ("bottleneck", "expand", "residual_and_skip"))
        if not inner:
            torch.testing.assert_close(step, by_adam[name], msg=f"{name} should be Adam's")
            continue
        # The first momentum is the gradient's own direction: the step's singular values are equal to within the five
        # Newton-Schulz iterations, which bring them between 0.7 and 1.2, times the rate and 0.2 sqrt(max(rows, columns)).
        length = MUON_RATIO * rate * 0.2 * max(step.shape) ** 0.5
        singular = torch.linalg.svdvals(step.double()) / length
        assert singular.min() > 0.5, name
        assert singular.max() < 1.5, name


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_kept_state_goes_on_with_the_same_bits(kind: str) -> None:
    settings = Train.model_validate({"optimiser": kind})
    whole, resumed = model(), model()
    optimiser = Optimiser(whole, settings)
    for seed in range(4):
        give_gradients(whole, seed)
        optimiser.step()
    first = Optimiser(resumed, settings)
    for seed in range(2):
        give_gradients(resumed, seed)
        first.step()
    second = Optimiser(resumed, settings)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for seed in range(2, 4):
        give_gradients(resumed, seed)
        second.step()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_learning_rate_scales_every_step() -> None:
    for kind in ("adam", "muon"):
        settings = Train.model_validate({"optimiser": kind, "learning_rate": 1e-3})
        optimiser, network = Optimiser(still := model(), settings), still
        before = copy.deepcopy(network.state_dict())
        give_gradients(network)
        optimiser.set_learning_rate(0.0)
        optimiser.step()
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_many_matrices_at_once_move_as_torchs_muon_moves_each_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 8), (24, 8), (8, 24), (16, 16), (24, 8), (8, 24)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours = [nn.Parameter(matrix.clone()) for matrix in start]
    theirs = [nn.Parameter(matrix.clone()) for matrix in start]
    unused = nn.Parameter(torch.ones(24, 8))
    batched = BatchedMuon([*ours, unused], lr=0.02, weight_decay=0.1)
    one_by_one = Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        batched.step()
        one_by_one.step()
    # A step is up to lr * 0.2 * sqrt(24) = 0.02 long, from products rounded to bfloat16 in one or another order.
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=4 * 0.02 * 2**-7)
    assert torch.equal(unused, torch.ones(24, 8)), "a matrix without a gradient stays where it is"


def test_a_step_to_be_skipped_changes_nothing_though_its_gradients_are_no_numbers() -> None:
    """By the route that a GPU takes, which does not wait to know."""
    generator = torch.Generator().manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(24, 8), (24, 8), (16, 16)]]
    others = [nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    muon, plain = (BatchedMuon(each, lr=0.02, weight_decay=0.1) for each in (matrices, others))
    for skip in (0.0, 1.0, 0.0):
        for matrix, other in zip(matrices, others, strict=True):
            matrix.grad = torch.randn(matrix.shape, generator=generator)
            other.grad = matrix.grad.clone()
            if skip:
                matrix.grad[0, 0] = torch.nan
        with torch.no_grad():
            muon._move(torch.tensor(skip))
            if not skip:
                plain._move(None)
    for matrix, other in zip(matrices, others, strict=True):
        torch.testing.assert_close(matrix, other, rtol=0, atol=1e-6)
        torch.testing.assert_close(muon.state[matrix]["momentum_buffer"], plain.state[other]["momentum_buffer"], rtol=0, atol=0)
