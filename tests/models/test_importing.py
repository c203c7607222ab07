"""Weights of other toolkits: the imported network gives what theirs gives, sample by sample, and nothing in a file is run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.models
import torchaudio.utils
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.pipelines import CONVTASNET_BASE_LIBRI2MIX

from pipeline.errors import CheckpointError
from pipeline.models.checkpoints import load_model
from pipeline.models.importing import import_model, published_bundle
from tests.cli.commands import tasnet
from tests.networks import unlike_new
from tests.nursery import IN_THE_NURSERY

SIZES = {"n_filters": 24, "kernel_size": 16, "bn_chan": 10, "hid_chan": 20, "skip_chan": 12, "n_blocks": 3, "n_repeats": 2}
LENGTHS = [1, 7, 8, 16, 100, 801, 1600]


def mixture(length: int, level: float = 1.0) -> Tensor:
    return level * torch.randn(2, length, generator=torch.Generator().manual_seed(length))


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


# -------------------------------------------------------------------------------------------------------------- torchaudio
@pytest.mark.parametrize("mask", ["sigmoid", "relu"])
@pytest.mark.parametrize("num_sources", [2, 3])
@pytest.mark.parametrize("level", [1.0, 1e-4])
def test_torchaudios_network_gives_the_same_output(tmp_path: Path, mask: str, num_sources: int, level: float) -> None:
    """Also for a mixture so quiet that the constant in the first norm counts."""
    torch.manual_seed(0)
    theirs = torchaudio.models.ConvTasNet(num_sources, 16, 24, 3, 10, 20, 4, 2, mask)
    torch.save(unlike_new(theirs).eval().state_dict(), tmp_path / "theirs.pt")
    ours = import_model(tmp_path / "theirs.pt", "torchaudio", given={"mask": mask, "blocks_per_repeat": 4})
    assert (ours.num_sources, ours.sample_rate, ours.settings.norm_kind) == (num_sources, 8000, "global")
    with torch.no_grad():
        for length in LENGTHS:
            x = mixture(length, level)
            assert_near(ours(x) / level, theirs(x[:, None]) / level)


def test_torchaudios_published_size_needs_no_settings(tmp_path: Path) -> None:
    """And what Lightning saves around it does no harm."""
    theirs = torchaudio.models.conv_tasnet_base().eval()
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer_states": [{"lr": 0.1}]}, tmp_path / "theirs.ckpt")
    ours = import_model(tmp_path / "theirs.ckpt", "torchaudio")
    with torch.no_grad():
        assert_near(ours(mixture(1000)), theirs(mixture(1000)[:, None]))


@pytest.mark.parametrize("key", ["model", "model_state_dict", None])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.model."])
def test_what_trainers_put_around_weights_is_taken_off(tmp_path: Path, key: str | None, prefix: str) -> None:
    theirs = unlike_new(torchaudio.models.ConvTasNet(2, 16, 24, 3, 10, 20, 4, 2)).eval()
    state = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "theirs.pt")
    ours = import_model(tmp_path / "theirs.pt", "torchaudio", given={"blocks_per_repeat": 4})
    torch.save(theirs.state_dict(), tmp_path / "bare.pt")
    bare = import_model(tmp_path / "bare.pt", "torchaudio", given={"blocks_per_repeat": 4})
    assert all(torch.equal(tensor, bare.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_the_published_bundle_is_found_where_torchaudio_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"has not downloaded its bundle yet; with a connection, run: python -c "):
        published_bundle()
    asked: list[str] = []
    monkeypatch.setattr(torchaudio.utils, "_download_asset", lambda key: asked.append(key) or tmp_path / "none")
    with pytest.raises(OSError, match="none"):
        CONVTASNET_BASE_LIBRI2MIX.get_model()
    path = tmp_path / "hub" / "torchaudio" / asked[0]
    path.parent.mkdir(parents=True)
    torch.save(torchaudio.models.conv_tasnet_base().state_dict(), path)
    assert published_bundle() == path
    assert (import_model(path, "torchaudio").sample_rate, CONVTASNET_BASE_LIBRI2MIX.sample_rate) == (8000, 8000)


@IN_THE_NURSERY
def test_the_command_makes_a_model_that_separates(tmp_path: Path) -> None:
    torch.save(torchaudio.models.ConvTasNet(2, 16, 24, 3, 10, 20, 4, 2).state_dict(), tmp_path / "theirs.pt")
    words = ["import", "torchaudio", "theirs.pt", "--out", "ours.safetensors", "--set", "blocks_per_repeat=4"]
    made = tasnet(*words, "--set", "mask=sigmoid", "--set", "sample_rate=16000", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("Model: ours.safetensors\n")
    assert load_model(tmp_path / "ours.safetensors").sample_rate == 16000
    soundfile.write(tmp_path / "talk.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 3000), 16000)
    assert tasnet("separate", "ours.safetensors", "talk.wav", cwd=tmp_path).returncode == 0
    assert soundfile.info(tmp_path / "separated" / "talk_s2.wav").frames == 3000
    wrong = tasnet(*words[:3], "--set", "blocks_per_repeat=3", cwd=tmp_path)
    assert wrong.returncode == 2
    said = "it has 8 blocks, not 2 times 3; give the number per repeat with --set blocks_per_repeat=…"
    assert wrong.stderr == f"tasnet: theirs.pt: {said}\n"


# ---------------------------------------------------------------------------------------------------------------- Asteroid
class Norm(nn.Module):
    """gLN, cLN and cgLN by their definitions, in float64."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.double()
        seen = [{"gLN": wide, "cLN": wide[..., k : k + 1], "cgLN": wide[..., : k + 1]}[self.kind] for k in range(x.shape[-1])]
        mean = torch.stack([s.mean((1, 2)) for s in seen], -1)[:, None]
        variance = torch.stack([s.var((1, 2), correction=0) for s in seen], -1)[:, None]
        normal = ((wide - mean) / torch.sqrt(variance + 1e-8)).float()
        return self.gamma[:, None] * normal + self.beta[:, None]


class Chop(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : -self.size]


class AsteroidsBlock(nn.Module):
    def __init__(self, norm: str, dilation: int, causal: bool) -> None:
        super().__init__()
        padding = 2 * dilation if causal else dilation
        depthwise: nn.Module = nn.Conv1d(20, 20, 3, padding=padding, dilation=dilation, groups=20)
        depthwise = nn.Sequential(depthwise, Chop(padding)) if causal else depthwise
        self.shared_block = nn.Sequential(nn.Conv1d(10, 20, 1), nn.PReLU(), Norm(norm, 20), depthwise, nn.PReLU(), Norm(norm, 20))
        self.res_conv, self.skip_conv = nn.Conv1d(20, 10, 1), nn.Conv1d(20, 12, 1)


class Asteroids(nn.Module):
    """The layout of ``asteroid.models.ConvTasNet``: its modules' names and shapes, made of torch's own modules."""

    def __init__(self, norm: str, mask: str, *, causal: bool, rectified: bool = False) -> None:
        super().__init__()
        self.mask, self.rectified = mask, rectified
        self.encoder, self.decoder = nn.Module(), nn.Module()
        for bank in (self.encoder, self.decoder):
            bank.filterbank = nn.Module()
            bank.filterbank._filters = nn.Parameter(0.3 * torch.randn(24, 1, 16))
        self.masker = nn.Module()
        self.masker.bottleneck = nn.Sequential(Norm(norm, 24), nn.Conv1d(24, 10, 1))
        self.masker.TCN = nn.ModuleList(AsteroidsBlock(norm, 2**x, causal) for _ in range(2) for x in range(3))
        self.masker.mask_net = nn.Sequential(nn.PReLU(), nn.Conv1d(12, 2 * 24, 1))

    def forward(self, x: Tensor) -> Tensor:
        frames = functional.conv1d(x[:, None], self.encoder.filterbank._filters, stride=8)
        frames = frames.relu() if self.rectified else frames
        y, skips = self.masker.bottleneck(frames), 0.0
        for block in self.masker.TCN:
            hidden = block.shared_block(y)
            y, skips = y + block.res_conv(hidden), skips + block.skip_conv(hidden)
        masks = self.masker.mask_net(skips).reshape(len(x), 2, 24, -1)
        masks = {"relu": masks.relu(), "sigmoid": masks.sigmoid(), "softmax": masks.softmax(1)}[self.mask]
        masked = (masks * frames[:, None]).flatten(0, 1)
        decoded = functional.conv_transpose1d(masked, self.decoder.filterbank._filters, stride=8).reshape(len(x), 2, -1)
        return functional.pad(decoded, (0, x.shape[-1] - decoded.shape[-1]))


ARGUMENTS = {
    **SIZES,
    **{"fb_name": "FreeFB", "stride": 8, "sample_rate": 8000.0, "in_chan": 24, "out_chan": 24, "conv_kernel_size": 3, "n_src": 2},
}


def packed(network: nn.Module, path: Path, **arguments: Any) -> Path:
    """As ``torch.save(model.serialize(), path)`` leaves it."""
    content = {
        "model_name": arguments.pop("model_name", "ConvTasNet"),
        "state_dict": OrderedDict(network.state_dict()),
        "model_args": {**ARGUMENTS, **arguments},
        "infos": {"software_versions": {"torch_version": torch.__version__, "asteroid_version": "0.7.0"}},
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("causal", "norm", "ours"),
    [(False, "gLN", "global"), (True, "cgLN", "cumulative"), (True, "cLN", "frame"), (False, "cLN", "frame")],
)
@pytest.mark.parametrize("mask", ["relu", "sigmoid", "softmax"])
def test_asteroids_network_gives_the_same_output_of_a_padded_mixture(
    tmp_path: Path, causal: bool, norm: str, ours: str, mask: str
) -> None:
    torch.manual_seed(0)
    rectified = mask == "relu"
    theirs = unlike_new(Asteroids(norm, mask, causal=causal, rectified=rectified)).eval()
    said = {"causal": causal, "norm_type": norm, "mask_act": mask, "encoder_activation": "relu" if rectified else None}
    imported = import_model(packed(theirs, tmp_path / "theirs.pth", **said), "asteroid")
    assert (imported.settings.causal, imported.settings.norm_kind) == (causal, ours)
    with torch.no_grad():
        for length in LENGTHS:
            x = mixture(length)
            expected = theirs(functional.pad(x, (8, 8 + -length % 8)))[..., 8 : 8 + length]
            assert_near(imported(x), expected)


def test_asteroids_weights_alone_need_the_settings_they_do_not_show(tmp_path: Path) -> None:
    theirs = unlike_new(Asteroids("cgLN", "relu", causal=True)).eval()
    torch.save({"state_dict": {f"model.{k}": v for k, v in theirs.state_dict().items()}}, tmp_path / "theirs.ckpt")
    with pytest.raises(
        CheckpointError, match=r"theirs\.ckpt: the file does not hold mask, norm, sample_rate; give it with --set mask=…"
    ):
        import_model(tmp_path / "theirs.ckpt", "asteroid")
    given = {"mask": "relu", "norm": "cumulative", "sample_rate": 8000, "blocks_per_repeat": 3}
    ours = import_model(tmp_path / "theirs.ckpt", "asteroid", given=given)
    with torch.no_grad():
        assert_near(ours(mixture(80)), theirs(functional.pad(mixture(80), (8, 8)))[..., 8:88])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"norm_type": "BN"}, "its norm 'BN' is none of gLN, cgLN, cLN"),
        ({"fb_name": "STFTFB"}, "its filterbank is 'STFTFB', not free"),
        ({"encoder_activation": "prelu"}, "its encoder's activation 'prelu'"),
        ({"stride": 4}, "its windows do not overlap by half"),
        ({"model_name": "DPRNNTasNet"}, "it is a DPRNNTasNet"),
        ({"mask_act": "tanh"}, "mask: Input should be"),
        ({"n_blocks": 4}, "it has 6 blocks, not 1 times 4"),
    ],
)
def test_what_ours_cannot_be_is_refused_in_a_line(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    path = packed(Asteroids("gLN", "relu", causal=False), tmp_path / "theirs.pth", **{"norm_type": "gLN", **said})
    with pytest.raises(CheckpointError, match=words) as caught:
        import_model(path, "asteroid")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_network_without_skip_connections_is_refused(tmp_path: Path) -> None:
    theirs = Asteroids("gLN", "relu", causal=False)
    for block in theirs.masker.TCN:
        del block.skip_conv
    with pytest.raises(CheckpointError, match="without skip connections"):
        import_model(packed(theirs, tmp_path / "theirs.pth", norm_type="gLN"), "asteroid")


# ------------------------------------------------------------------------------------------------------------------- files
class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": Harmful()}, "harmful.pt")
    with pytest.raises(CheckpointError, match=r"harmful\.pt: .* is not loaded"):
        import_model("harmful.pt", "torchaudio")
    assert not Path("harmed").exists()


@pytest.mark.parametrize("content", [None, b"", b"RIFF", {"a": 1}, [1], {"state_dict": {"encoder.weight": torch.zeros(2)}}])
def test_other_files_are_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    for origin in ("torchaudio", "asteroid"):
        with pytest.raises(CheckpointError, match=r"other\.pt: ") as caught:
            import_model(path, origin)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="unknown toolkit; choose torchaudio, asteroid"):
        import_model(path, "somebody")


ASTEROID = """
    import sys, torch
    from asteroid.models import ConvTasNet
    torch.manual_seed(0)
    for name, arguments in {"gLN": {}, "cgLN": {"causal": True}, "cLN": {"causal": True}}.items():
        model = ConvTasNet(2, norm_type=name, mask_act="relu", **%r, **arguments).eval()
        x = torch.randn(1, 1600)
        with torch.no_grad():
            y = model(torch.nn.functional.pad(x, (8, 8)))[..., 8:-8]
        torch.save(model.serialize(), f"{sys.argv[1]}/{name}.pth")
        torch.save({"x": x, "y": y}, f"{sys.argv[1]}/{name}.signals")
"""


@pytest.mark.slow
def test_asteroids_own_files(tmp_path: Path) -> None:
    """Against the package itself, in an environment of its own: it needs older packages than ours."""
    interpreter = os.environ.get("ASTEROID_PYTHON")
    if not interpreter:
        pytest.skip("ASTEROID_PYTHON names no interpreter of an environment with asteroid 0.7.0")
    script = "\n".join(line[4:] for line in (ASTEROID % SIZES).splitlines())
    subprocess.run([interpreter, "-W", "ignore", "-c", script, str(tmp_path)], check=True, timeout=250)
    for name in ("gLN", "cgLN", "cLN"):
        signals = torch.load(tmp_path / f"{name}.signals", weights_only=True)
        with torch.no_grad():
            assert_near(import_model(tmp_path / f"{name}.pth", "asteroid")(signals["x"]), signals["y"])


def test_the_loader_is_imported_only_when_asked_for() -> None:
    script = "import pipeline.cli.app, pipeline.stages.run, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=250).returncode == 0
