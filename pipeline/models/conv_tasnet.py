"""Conv-TasNet: separation in a learned time-frequency plane (Luo & Mesgarani, IEEE/ACM TASLP 27(8), 2019).

    mixture --encoder--> frames --separator--> one mask per source --decoder--> sources

Inside, everything is channels last, ``[batch, frames, channels]``: a 1×1 convolution is then a plain matrix product, a frame's
statistics are one contiguous row, and a depthwise convolution is a few shifted multiply-adds that torch.compile fuses with the
activation and the norm around it. The shapes are written after each step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.filterbanks import inverse, sinusoids
from pipeline.models.kernels import cpu as kernels
from pipeline.models.norms import NORMS
from pipeline.recipe.schema import Model

INPUT_EPS = 1e-20
"""Of the first norm only. It makes the separator blind to the input's level; the usual 1e-8 would exceed the variance of quiet
recordings and change the masks. Every later norm sees values near one."""


class ConvTasNet(nn.Module):
    """The network: any mixture in, its sources out.

    Args:
        settings: the architecture; its names give the paper's letters.
        num_sources: sources in every mixture.
        sample_rate: Hz, of the audio it is trained on; kept with the weights.

    Shape:
        ``[batch, time] -> [batch, source, time]`` for any time ≥ 1.
    """

    def __init__(self, settings: Model, *, num_sources: int = 2, sample_rate: int = 8000) -> None:
        super().__init__()
        self.settings = settings
        self.num_sources = num_sources
        self.sample_rate = sample_rate
        self.encoder = Encoder(settings)
        self.separator = Separator(settings, num_sources)
        self.decoder = Decoder(settings)
        if settings.filterbank == "sinusoids":
            self._begin_with_sinusoids()

    @torch.no_grad()
    def _begin_with_sinusoids(self) -> None:
        filters = sinusoids(self.settings.num_filters, self.settings.filter_length)
        self.encoder.filters.weight.copy_(filters)
        self.decoder.basis.weight.copy_(inverse(filters, rectified=self.encoder.rectify))

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate; the estimates' scale is arbitrary, as the training loss leaves it."""
        # The encoder stays in full precision under autocast: every norm that follows depends on it, and it costs little.
        with torch.autocast(mixture.device.type, enabled=False):
            frames = self.encoder(mixture)  # [batch, frames, N]
        masks = self.separator(frames)  # [batch, frames, source, N]
        # The masked frames have the level of the input, which is often too quiet for float16, but not for bfloat16.
        with torch.autocast(mixture.device.type, dtype=torch.bfloat16, enabled=masks.dtype == torch.bfloat16):
            masked = frames[:, :, None].to(masks.dtype) * masks  # [batch, frames, source, N]
            sources: Tensor = self.decoder(masked)  # [batch, source, time or a little more]
        return sources[..., : mixture.shape[-1]].to(mixture.dtype)

    @property
    def receptive_field_frames(self) -> int:
        """Frames that one mask value can depend on through the convolutions, ``1 + R (P - 1) (2^X - 1)``."""
        s = self.settings
        return 1 + s.num_repeats * (s.kernel_size - 1) * ((1 << s.blocks_per_repeat) - 1)

    @property
    def receptive_field_samples(self) -> int:
        """Samples under those frames."""
        return (self.receptive_field_frames + 1) * (self.settings.filter_length // 2)


class Encoder(nn.Module):
    """Frames of L samples, half overlapping, times N filters [U]; every sample lies in exactly two frames.

    Shape:
        ``[batch, time] -> [batch, frames, N]`` with ``frames = ceil(time / (L/2)) + 1``.
    """

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.stride = settings.filter_length // 2
        self.rectify = settings.encoder == "relu"
        self.filters = nn.Linear(settings.filter_length, settings.num_filters, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        """Analyse."""
        missing = -mixture.shape[-1] % self.stride
        padded = functional.pad(mixture, (self.stride, self.stride + missing))  # [batch, (frames + 1) · L/2]
        halves = padded.reshape(padded.shape[0], -1, self.stride)  # [batch, frames + 1, L/2]
        frames = torch.cat([halves[:, :-1], halves[:, 1:]], dim=-1)  # [batch, frames, L]
        responses: Tensor = self.filters(frames)  # [batch, frames, N]
        return responses.relu() if self.rectify else responses


class Decoder(nn.Module):
    """N basis signals of L samples [V], summed where frames overlap.

    Shape:
        ``[batch, frames, source, N] -> [batch, source, (frames - 1) · L/2]``.
    """

    def __init__(self, settings: Model) -> None:
        super().__init__()
        self.stride = settings.filter_length // 2
        self.basis = nn.Linear(settings.num_filters, settings.filter_length, bias=False)
        bound = settings.filter_length**-0.5  # that of a transposed convolution
        nn.init.uniform_(self.basis.weight, -bound, bound)

    def forward(self, masked: Tensor) -> Tensor:
        """Synthesise."""
        frames = self.basis(masked).transpose(1, 2)  # [batch, source, frames, L]
        halves: Tensor = frames[:, :, 1:, : self.stride] + frames[:, :, :-1, self.stride :]  # [batch, source, frames - 1, L/2]
        return halves.flatten(2)  # [batch, source, (frames - 1) · L/2]


class Separator(nn.Module):
    """A temporal convolutional network that estimates one mask per source.

    Shape:
        ``[batch, frames, N] -> [batch, frames, source, N]``.
    """

    def __init__(self, settings: Model, num_sources: int) -> None:
        super().__init__()
        s = settings
        self.num_sources = num_sources
        self.mask = s.mask
        self.input_norm = NORMS[s.norm_kind](s.num_filters, eps=INPUT_EPS)
        self.bottleneck = nn.Linear(s.num_filters, s.bottleneck_channels)
        dilations = [2**x for _ in range(s.num_repeats) for x in range(s.blocks_per_repeat)]
        last = len(dilations) - 1
        # Nothing reads the last block's residual output, so it has none.
        self.blocks = nn.ModuleList(Block(s, d, with_residual=i < last) for i, d in enumerate(dilations))
        self.output_activation = PReLU()
        self.output = nn.Linear(s.skip_channels, num_sources * s.num_filters)

    def forward(self, frames: Tensor) -> Tensor:
        """Estimate the masks."""
        normal = kernels.normalised(self.input_norm, frames) if kernels.usable(frames) else self.input_norm(frames)
        x = self.bottleneck(normal)  # [batch, frames, B]
        skips: Tensor | float = 0.0
        for block in self.blocks:
            x, skip = block(x)  # [batch, frames, B], [batch, frames, Sc]
            skips = skips + skip
        logits = self.output(self.output_activation(skips))  # [batch, frames, source · N]
        return self._bounded(logits.reshape(*logits.shape[:-1], self.num_sources, -1))  # [batch, frames, source, N]

    def _bounded(self, logits: Tensor) -> Tensor:
        wide = logits.float() if logits.dtype == torch.float16 else logits
        if self.mask == "softmax":
            return wide.softmax(dim=-2).to(wide.dtype)  # over the sources
        return wide.sigmoid() if self.mask == "sigmoid" else wide.relu()


class Block(nn.Module):
    """1×1 up to H channels, dilated depthwise convolution, 1×1 down to the residual and skip paths.

    Shape:
        ``[batch, frames, B] -> [batch, frames, B], [batch, frames, Sc]``; without a residual the first is the input.
    """

    def __init__(self, settings: Model, dilation: int, *, with_residual: bool) -> None:
        super().__init__()
        s = settings
        norm = NORMS[s.norm_kind]
        self.sizes = [s.bottleneck_channels if with_residual else 0, s.skip_channels]
        self.expand = nn.Linear(s.bottleneck_channels, s.hidden_channels)
        self.activation_1 = PReLU()
        self.norm_1 = norm(s.hidden_channels)
        self.depthwise = DepthwiseConv(s.hidden_channels, s.kernel_size, dilation, causal=s.causal)
        self.activation_2 = PReLU()
        self.norm_2 = norm(s.hidden_channels)
        self.residual_and_skip = nn.Linear(s.hidden_channels, sum(self.sizes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the network: the sum to pass on, and what goes to the masks."""
        if kernels.usable(x):
            y = kernels.hidden(self, x)  # the same as below, in fewer passes over memory
        else:
            y = self.norm_1(self.activation_1(self.expand(x)))  # [batch, frames, H]
            y = self.norm_2(self.activation_2(self.depthwise(y)))  # [batch, frames, H]
        residual, skip = self.residual_and_skip(y).split(self.sizes, dim=-1)  # [batch, frames, B], [batch, frames, Sc]
        return x + residual if self.sizes[0] else x, skip


class DepthwiseConv(nn.Module):
    """Each channel convolved with its own few taps, dilated, as shifted multiply-adds; same length out as in.

    Args:
        channels: size of the last axis.
        kernel_size: taps.
        dilation: frames between taps.
        causal: look at this frame and earlier ones only; otherwise centred.

    Shape:
        ``[batch, frames, channels] -> [batch, frames, channels]``.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, *, causal: bool) -> None:
        super().__init__()
        self.dilation = dilation
        reach = (kernel_size - 1) * dilation
        self.padding = (reach, 0) if causal else (reach // 2, reach // 2)  # frames before, frames after
        bound = kernel_size**-0.5  # that of torch's convolutions
        self.taps = nn.Parameter(torch.empty(kernel_size, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        num_frames = x.shape[1]
        padded = functional.pad(x, (0, 0, *self.padding))  # [batch, before + frames + after, channels]
        y = self.bias
        for i, tap in enumerate(self.taps):
            start = i * self.dilation
            y = y + tap * padded[:, start : start + num_frames]  # [batch, frames, channels]
        return y


class PReLU(nn.Module):
    """A rectifier that lets a learned share of the negative side through, one for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x: Tensor) -> Tensor:
        """Apply, in the precision of the slope."""
        return torch.where(x > 0, x, self.slope * x)
