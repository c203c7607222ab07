"""Another architecture needs the members of the protocol, and nothing of Conv-TasNet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.compute.distributed import Group
from pipeline.models import Network, causality, describe_model
from pipeline.recipe.schema import Model, System, Train
from pipeline.separation.offline import separate
from pipeline.training.interruptions import Interruptions
from pipeline.training.loop import Training
from tests.training.trainings import QUIET, SETS


class Moving(nn.Module):
    """Each source is a mean of the last four samples, and what is left of the mixture."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = Model(causal=True)
        self.num_sources = 2
        self.sample_rate = 8000
        self.causal = True
        self.look_ahead_limit = 0
        self.hop_samples = 1
        self.receptive_field_samples = 4
        self.macs_per_second = 4.0 * 8000
        self.taps = nn.Parameter(torch.full((1, 4), 0.25))
        self.gain = nn.Parameter(torch.ones(1))

    def inner_matrices(self) -> Iterator[Tensor]:
        yield self.taps

    def forward(self, mixture: Tensor) -> Tensor:
        padded = nn.functional.pad(mixture, (3, 0)).unfold(-1, 4, 1)  # [batch, time, 4]
        smooth = self.gain * (padded @ self.taps[0])
        return torch.stack([smooth, mixture - smooth], dim=1)


def test_it_is_described_trained_and_separates(tmp_path: Path) -> None:
    network: Network = Moving()
    assert causality(network).look_ahead_samples == 0
    facts = describe_model(network)
    assert (facts["num_parameters"], facts["macs_per_second"], facts["latency_seconds"]) == (5, 32000, 1 / 8000)
    system = System(model=network.settings, train=Train(optimiser="muon", batch_size=2, epochs=2, precision="float32"))
    training = Training(network, system, SETS, tmp_path, 0, QUIET, Group(), Interruptions())
    training.run("")
    assert (training.history["epoch"] == [1, 2]).all()
    estimates = separate(network, np.random.default_rng(0).standard_normal(100), sample_rate=8000)
    assert estimates.shape == (2, 100)
