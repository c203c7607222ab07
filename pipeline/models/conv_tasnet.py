"""Conv-TasNet: separation in a learned time-frequency plane (Luo & Mesgarani, IEEE/ACM TASLP 27(8), 2019).

    mixture --encoder--> frames --separator--> one mask per source --decoder--> sources

Inside, everything is channels last, ``[batch, frames, channels]``: a 1×1 convolution is then a plain matrix product, a frame's
statistics are one contiguous row, and a depthwise convolution is a few shifted multiply-adds that torch.compile fuses with the
activation and the norm around it. The shapes are written after each step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import ModelError
from pipeline.models import layerwise
from pipeline.models.filterbanks import Decoder, Encoder, inverse, sinusoids
from pipeline.models.kernels import dispatch, streaming
from pipeline.models.layers import DepthwiseConv, PReLU
from pipeline.models.norms import NORMS
from pipeline.models.protocol import LayerByLayer, Streaming
from pipeline.models.streaming import StreamingCopy
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
            self._start_from_sinusoids()

    @torch.no_grad()
    def _start_from_sinusoids(self) -> None:
        filters = sinusoids(self.settings.num_filters, self.settings.filter_length)
        self.encoder.filters.weight.copy_(filters)
        self.decoder.basis.weight.copy_(inverse(filters, rectified=self.encoder.rectify))

    def forward(self, mixture: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Separate; the estimates' scale is arbitrary, as the training loss leaves it.

        Args:
            mixture: ``[batch, time]``.
            num_samples: ``[batch]`` true lengths of mixtures that are padded with zeros to a common one. Each is then separated
                as if it were alone; what the estimates hold beyond its end means nothing. By default all samples count.

        Raises:
            ModelError: the mixtures are not ``[batch, time]``; another dimension would be taken for channels or lost.
        """
        if mixture.ndim != 2:
            raise ModelError(f"mixtures must be [batch, time], of one channel; these are {list(mixture.shape)}")
        # Autocast leaves the encoder in float32: every norm that follows depends on it, and it costs little.
        with torch.autocast(mixture.device.type, enabled=False):
            frames = self.encoder(mixture)  # [batch, frames, N]
        num_frames = None if num_samples is None else self.encoder.num_frames(num_samples)
        masks = self.separator(frames, num_frames)  # [batch, frames, source, N]
        # The masked frames have the level of the input, which is often too quiet for float16, but not for bfloat16.
        with torch.autocast(mixture.device.type, dtype=torch.bfloat16, enabled=masks.dtype == torch.bfloat16):
            masked = frames[:, :, None].to(masks.dtype) * masks  # [batch, frames, source, N]
            sources: Tensor = self.decoder(masked)  # [batch, source, time or a little more]
        # One sample more is always too many: torch.export would tie its graph to whether the last hop is cut.
        return functional.pad(sources, (0, 1))[..., : mixture.shape[-1]].to(mixture.dtype)

    def streaming(self, batch_size: int = 1, *, forget_frames: float | None = None, rounded: bool = False) -> Streaming:
        """The network as it is now, for signals that arrive piece by piece; see :class:`pipeline.models.protocol.Network`."""
        definition = StreamingCopy(self, batch_size, forget_frames, rounded=rounded)
        with torch.device("meta"):
            settings = self.settings.model_copy(update={"filterbank": "random"})
            plain = ConvTasNet(settings, num_sources=self.num_sources, sample_rate=self.sample_rate)
        return streaming.compiled(self, plain, definition) or definition

    def activation_bytes(self, num_samples: int) -> int:
        """Memory that separating a signal at once takes beside the weights, roughly."""
        return layerwise.bytes_per_frame(self) * (num_samples // self.hop_samples + 2)

    def layer_by_layer(self, num_samples: int) -> LayerByLayer:
        """The network for one signal that is too long for memory; exact, whether causal or not."""
        return layerwise.LayerByLayer(self, num_samples)

    @property
    def causal(self) -> bool:
        """Whether no output may depend on what comes after the rest of its encoder window."""
        return self.settings.causal

    @property
    def look_ahead_limit(self) -> int:
        """The rest of the encoder's window, in samples: what a causal network may look ahead."""
        return self.settings.filter_length - 1

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return self.settings.filter_length // 2

    @property
    def receptive_field_frames(self) -> int:
        """Frames that one mask value can depend on through the convolutions, ``1 + R (P - 1) (2^X - 1)``."""
        s = self.settings
        return 1 + s.num_repeats * (s.kernel_size - 1) * ((1 << s.blocks_per_repeat) - 1)

    @property
    def receptive_field_samples(self) -> int:
        """Samples under those frames."""
        return (self.receptive_field_frames + 1) * self.hop_samples

    @property
    def macs_per_second(self) -> float:
        """Multiply-accumulates per second of audio, norms and activations not counted.

        Every weight of a matrix or convolution meets each frame once, the decoder's once per source.
        """
        weights = sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Linear))
        taps = sum(part.taps.numel() for part in self.modules() if isinstance(part, DepthwiseConv))
        repeated = (self.num_sources - 1) * self.decoder.basis.weight.numel()
        return (weights + taps + repeated) * self.sample_rate / self.hop_samples

    def inner_matrices(self) -> Iterator[Tensor]:
        """The weights of the 1×1 convolutions between the encoder and the masks."""
        for part in (self.separator.bottleneck, *self.separator.blocks):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    yield module.weight


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

    def forward(self, frames: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Estimate the masks; ``num_frames`` ``[batch]`` of the frames count, by default all."""
        padded = () if num_frames is None else (num_frames,)
        normal = dispatch.normalised(self.input_norm, frames, *padded)
        if normal is None:
            normal = self.input_norm(frames, *padded)  # [batch, frames, N]
        x = self.bottleneck(normal)  # [batch, frames, B]
        skips: Tensor | float = 0.0
        for block in self.blocks:
            x, skip = block(x, *padded)  # [batch, frames, B], [batch, frames, Sc]
            skips = skips + skip
        return self.masks(skips)

    def masks(self, skips: Tensor | float) -> Tensor:
        """The masks ``[batch, frames, source, N]`` from the sum of the skip paths, ``[batch, frames, Sc]``."""
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

    def forward(self, x: Tensor, num_frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One step of the network: the sum to pass on, and what goes to the masks."""
        return self.combine(x, self.hidden(x, num_frames))

    def hidden(self, x: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """The normalised hidden activations ``[batch, frames, H]``."""
        y = dispatch.hidden(self, x, num_frames)  # the same as below, in fewer passes over memory
        if y is None and num_frames is not None:
            y = self._hidden_of_padded(x, num_frames)
        elif y is None:
            y = self.norm_1(self.activation_1(self.expand(x)))  # [batch, frames, H]
            y = self.norm_2(self.activation_2(self.depthwise(y)))  # [batch, frames, H]
        return y

    def _hidden_of_padded(self, x: Tensor, num_frames: Tensor) -> Tensor:
        """The same where ``num_frames`` ``[batch]`` of the frames count: the convolution sees zeros after them, as at any end."""
        inside = torch.arange(x.shape[1], device=x.device)[:, None] < num_frames[:, None, None]  # [batch, frames, 1]
        y = self.norm_1(self.activation_1(self.expand(x)), num_frames)  # [batch, frames, H]
        y = self.depthwise(torch.where(inside, y, 0.0))  # [batch, frames, H]
        return self.norm_2(self.activation_2(y), num_frames)  # type: ignore[no-any-return]  # [batch, frames, H]

    def combine(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What comes of a block's input and its hidden activations."""
        residual, skip = self.residual_and_skip(y).split(self.sizes, dim=-1)  # [batch, frames, B], [batch, frames, Sc]
        return x + residual if self.sizes[0] else x, skip
