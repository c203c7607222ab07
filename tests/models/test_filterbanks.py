"""Sinusoids to begin with: what they are in closed form, and that encoder and decoder begin as each other's inverse."""

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models import build_model
from pipeline.models.filterbanks import inverse, sinusoids


def test_filters_are_band_passes_of_unit_energy_at_their_frequencies() -> None:
    filters = sinusoids(64, 32)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(64, dtype=torch.float64))
    # Where each filter lets most through, on a fine grid: the middle of its band, but for the two bands at either end.
    spectrum = np.abs(np.fft.rfft(filters.numpy(), 4096, axis=1))
    peaks = spectrum.argmax(axis=1) / 4096
    expected = np.repeat((np.arange(16) + 0.5) / 32, 4)
    assert np.abs(peaks - expected)[8:-8].max() < 0.25 / 32


def test_opposite_phases_cancel_and_neighbours_are_a_quarter_turn_apart() -> None:
    quarter = sinusoids(64, 32).reshape(16, 4, 32)
    torch.testing.assert_close(quarter[:, 0], -quarter[:, 2])
    torch.testing.assert_close(quarter[:, 1], -quarter[:, 3])


@pytest.mark.parametrize("encoder", ["linear", "relu"])
@pytest.mark.parametrize(("num_filters", "filter_length"), [(32, 16), (256, 64), (512, 16), (44, 20)])
@pytest.mark.parametrize("num_samples", [1, 97, 800])
def test_masks_of_one_give_the_mixture_back(encoder: str, num_filters: int, filter_length: int, num_samples: int) -> None:
    model = build_model(encoder=encoder, filterbank="sinusoids", num_filters=num_filters, filter_length=filter_length).double()
    filters = sinusoids(num_filters, filter_length)
    model.encoder.filters.weight.data = filters
    model.decoder.basis.weight.data = inverse(filters, rectified=encoder == "relu")
    mixture = torch.randn(1, num_samples, dtype=torch.float64)
    with torch.no_grad():
        again = model.decoder(model.encoder(mixture)[:, :, None])[..., :num_samples]
    torch.testing.assert_close(again[:, 0], mixture, rtol=0, atol=1e-10)


def test_a_network_begins_with_them_when_asked_to() -> None:
    model = build_model(filterbank="sinusoids", num_filters=64, filter_length=32)
    torch.testing.assert_close(model.encoder.filters.weight, sinusoids(64, 32).float())
    assert not torch.equal(build_model(num_filters=64, filter_length=32).encoder.filters.weight, sinusoids(64, 32).float())


@pytest.mark.parametrize(("num_filters", "filter_length"), [(66, 32), (60, 32)])
def test_too_few_filters_are_refused(num_filters: int, filter_length: int) -> None:
    with pytest.raises(ModelError, match="twice filter_length"):
        build_model(filterbank="sinusoids", num_filters=num_filters, filter_length=filter_length)
