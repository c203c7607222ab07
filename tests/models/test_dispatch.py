"""Kernels are invisible: what they cannot do exactly as the definition does it, the definition does."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations

from pipeline.models import ConvTasNet, build_model
from pipeline.models.conv_tasnet import Block
from pipeline.models.kernels import dispatch, library
from pipeline.recipe.schema import Model

SMALL = Model(
    causal=True, num_filters=16, filter_length=8, bottleneck_channels=12, skip_channels=8, hidden_channels=24,
    blocks_per_repeat=2, num_repeats=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if library.load() is None:
        pytest.skip("there is no C++ compiler for the kernels")


@pytest.fixture
def model() -> ConvTasNet:
    torch.manual_seed(0)
    return build_model(SMALL)


@pytest.fixture
def block(model: ConvTasNet) -> Block:
    found = model.separator.blocks[0]
    assert isinstance(found, Block)
    return found


def frames(num: int = 30) -> Tensor:
    return torch.randn(2, num, 12, generator=torch.Generator().manual_seed(1))


def plain(function: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
    """What the readable definition gives."""
    with dispatch.definition_only():
        return function(*arguments)


def test_a_plain_block_uses_the_kernels(block: Block) -> None:
    x = frames()
    assert dispatch.hidden(block, x) is not None
    assert dispatch.normalised(nn.Module(), x) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert dispatch.hidden(block, x) is not None
    with dispatch.definition_only():
        assert dispatch.hidden(block, x) is None
    assert dispatch.hidden(block, x) is not None


def test_other_types_and_devices_use_the_definition(block: Block) -> None:
    x = frames()
    assert dispatch.hidden(block, x.double()) is None
    assert dispatch.hidden(block, x.to("meta")) is None
    assert not dispatch.available(torch.device("meta"))
    with torch.autocast("cpu", torch.float16):
        assert dispatch.hidden(block, x) is None


def test_padded_batches_are_the_definitions_on_a_cpu_and_with_gradients(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    x, ends = frames(), torch.tensor([30, 4])
    with torch.no_grad():
        assert dispatch.hidden(block, x, ends) is None
    monkeypatch.setattr(dispatch, "_PADDED", ("cpu",))
    assert dispatch.hidden(block, x, ends) is None  # gradients are wanted
    assert dispatch.hidden(block, x) is not None


def test_without_a_compiler_the_definition_remains(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(lambda x: block(x)[1], frames())
    monkeypatch.setattr(library, "load", lambda: None)
    assert not dispatch.available(torch.device("cpu"))
    assert torch.equal(block(frames())[1], expected)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_model_gives_what_the_model_gives(model: ConvTasNet) -> None:
    mixture = torch.randn(1, 160)
    traced = torch.jit.trace(model.eval(), mixture)
    torch.testing.assert_close(traced(mixture), model(mixture), rtol=1e-4, atol=1e-5)
    assert "tasnet::" not in str(traced.inlined_graph)


def test_an_exported_model_holds_torchs_operators_only(model: ConvTasNet) -> None:
    """And takes any length, whether or not that of the example ends with a whole hop."""
    shapes = {"mixture": {1: torch.export.Dim.DYNAMIC}}
    exported = torch.export.export(model.eval(), (torch.randn(1, 160),), dynamic_shapes=shapes)
    for length in (160, 161, 1003, 80):
        mixture = torch.randn(1, length)
        torch.testing.assert_close(exported.module()(mixture), model(mixture), rtol=1e-4, atol=1e-5)
    assert "tasnet" not in str(exported.graph)


def test_a_model_in_bfloat16_is_as_good_as_its_rounding(model: ConvTasNet) -> None:
    mixture = torch.randn(1, 800)
    expected = model(mixture)
    estimates = copy.deepcopy(model).bfloat16()(mixture.bfloat16()).float()
    assert (estimates - expected).square().mean() < 1e-3 * expected.square().mean()


class Adapter(nn.Module):
    """A low-rank adapter (LoRA) around a linear layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x) + self.up(self.down(x))
        return y


class AdaptedLinear(nn.Linear):
    """The same as a subclass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.extra

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features)
        self.extra = nn.Parameter(torch.ones(base.out_features))


@pytest.mark.parametrize("adapter", [Adapter, AdaptedLinear])
def test_replaced_layers_are_heard_and_learn(block: Block, adapter: Callable[[nn.Linear], nn.Module]) -> None:
    before = block(frames())[1]
    added = adapter(block.expand)
    block.expand = added  # type: ignore[assignment]
    after = block(frames())[1]
    assert not torch.equal(before, after)
    after.square().sum().backward()
    learning = [added.down.weight, added.up.weight] if isinstance(added, Adapter) else [added.extra]
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in learning)


HOOKS: dict[str, Callable[[nn.Module, list[str]], object]] = {
    "forward": lambda part, seen: part.register_forward_hook(lambda *_: seen.append("seen")),
    "before": lambda part, seen: part.register_forward_pre_hook(lambda *_: seen.append("seen")),
    "backward": lambda part, seen: part.register_full_backward_hook(lambda *_: seen.append("seen")),
    "before backward": lambda part, seen: part.register_full_backward_pre_hook(lambda *_: seen.append("seen")),
}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("name", ["expand", "activation_1", "norm_1", "depthwise", "activation_2", "norm_2"])
def test_hooks_of_every_part_are_called(block: Block, kind: str, name: str) -> None:
    seen: list[str] = []
    HOOKS[kind](getattr(block, name), seen)
    block(frames().requires_grad_())[1].sum().backward()
    assert seen == ["seen"]


def test_hooks_of_the_input_norm_and_of_all_modules_are_called(model: ConvTasNet) -> None:
    seen: list[nn.Module] = []
    handle = model.separator.input_norm.register_forward_hook(lambda part, *_: seen.append(part))
    model(torch.randn(1, 80))
    handle.remove()
    assert seen == [model.separator.input_norm]
    everywhere = nn.modules.module.register_module_forward_hook(lambda part, *_: seen.append(part))
    try:
        model(torch.randn(1, 80))
    finally:
        everywhere.remove()
    assert all(part in seen for part in model.separator.blocks[0].children())


def test_a_patched_method_is_called(block: Block) -> None:
    block.norm_1.forward = lambda x: torch.zeros_like(x)  # type: ignore[method-assign]
    expected = plain(lambda x: block(x)[1], frames())
    assert torch.equal(block(frames())[1], expected)


def test_a_parametrised_weight_learns(block: Block) -> None:
    parametrizations.weight_norm(block.expand)
    torch.testing.assert_close(block(frames())[1], plain(lambda x: block(x)[1], frames()))
    block(frames())[1].sum().backward()
    assert all(parameter.grad is not None for parameter in block.expand.parameters())


def test_parameters_of_unusual_layout_or_shape(block: Block) -> None:
    block.depthwise.taps = nn.Parameter(torch.randn(24, 3).T)
    block.norm_2.weight = nn.Parameter(torch.rand(48)[::2])
    torch.testing.assert_close(block(frames())[1], plain(lambda x: block(x)[1], frames()))
    block.activation_1.slope = nn.Parameter(torch.rand(24))  # one for each channel
    torch.testing.assert_close(block(frames())[1], plain(lambda x: block(x)[1], frames()))
    block.norm_1.bias = nn.Parameter(torch.rand(7))
    with pytest.raises(RuntimeError, match="size"):
        block(frames())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_dynamic_quantisation(model: ConvTasNet) -> None:
    if "none" in torch.backends.quantized.supported_engines[:1] and len(torch.backends.quantized.supported_engines) == 1:
        pytest.skip("this torch has no engine for quantised products")
    quantised = torch.ao.quantization.quantize_dynamic(model.eval(), {nn.Linear}, dtype=torch.qint8)
    mixture = torch.randn(1, 800)
    assert torch.nn.functional.cosine_similarity(quantised(mixture).flatten(), model(mixture).flatten(), dim=0) > 0.9


# ---------------------------------------------------------------------------------------------------------------- gradients
def gradient(function: Callable[[Tensor], Tensor], x: Tensor, **options: bool) -> Tensor:
    return torch.autograd.grad(function(x), x, **options)[0]


def test_a_graph_can_be_used_twice(block: Block) -> None:
    x = frames().requires_grad_()
    y = block(x)[1].square().sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    second = torch.autograd.grad(y, x)[0]
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, x)


def penalty(x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
    """The size of a gradient, as a term of a loss."""
    found = torch.autograd.grad(part(x).square().sum(), x, create_graph=True)[0]
    return found.square().sum()


def test_gradients_of_gradients(model: ConvTasNet) -> None:
    mixture = torch.randn(2, 80, requires_grad=True)
    parameters = list(model.parameters())
    fast = torch.autograd.grad(penalty(mixture, model), [mixture, *parameters], allow_unused=True)
    with dispatch.definition_only():
        slow = torch.autograd.grad(penalty(mixture, model), [mixture, *parameters], allow_unused=True)
    for mine, expected in zip(fast, slow, strict=True):
        assert (mine is None) == (expected is None)
        if expected is not None:
            assert (mine - expected).abs().max() <= 1e-3 * expected.abs().max().clamp_min(1e-6)


def test_frozen_parameters(block: Block) -> None:
    """In part, as for fine-tuning; also when the gradient is differentiated again."""
    block.norm_1.requires_grad_(False)
    x = frames().requires_grad_()
    fast, slow = penalty(x, lambda x: block(x)[1]), plain(lambda x: penalty(x, lambda x: block(x)[1]), x)
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=0)
    block(x)[1].sum().backward()
    assert block.norm_1.weight.grad is None
    assert block.norm_2.weight.grad is not None


def test_torch_func(block: Block) -> None:
    x = frames()
    parameters = dict(block.named_parameters())

    def loss(given: dict[str, Tensor]) -> Tensor:
        outputs: tuple[Tensor, Tensor] = torch.func.functional_call(block, given, (x,))
        return outputs[1].square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-3)
    batched = torch.func.vmap(lambda each: block(each[None])[1][0])(x)
    torch.testing.assert_close(batched, block(x)[1])


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # which torch uses itself here
def test_forward_differentiation(block: Block) -> None:
    x, direction = frames(), torch.randn(2, 30, 12)
    with forward_ad.dual_level():
        dual = block(forward_ad.make_dual(x, direction))[1]
        tangent = forward_ad.unpack_dual(dual).tangent
    step = 1e-3
    expected = (block.double()(x.double() + step * direction)[1] - block(x.double() - step * direction)[1]) / (2 * step)
    torch.testing.assert_close(tangent.double(), expected, rtol=1e-2, atol=1e-2)
