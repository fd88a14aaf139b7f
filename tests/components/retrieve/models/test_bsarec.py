import dataclasses

import numpy as np
import pytest
import torch

from components.retrieve.model_config import BsarecConfig
from components.retrieve.models.bsarec import Bsarec, FrequencyRescaler


@pytest.mark.parametrize(("length", "cutoff"), [(12, 3), (11, 3), (12, 1), (7, 4)])
def test_the_filter_equals_a_fourier_transform(length, cutoff) -> None:
    torch.manual_seed(0)
    layer = FrequencyRescaler(length, 5, cutoff, dropout=0.5).eval()
    x = torch.randn(3, length - 2, 5)
    places = torch.arange(length - 2).expand(3, -1)
    spectrum = np.fft.rfft(x.double().numpy(), n=length, axis=1)
    spectrum[:, cutoff:] = 0
    low = np.fft.irfft(spectrum, n=length, axis=1)[:, : length - 2]
    high = x.double().numpy() - low
    mixed = x.numpy() + low + layer.beta.detach().double().numpy() ** 2 * high
    expected = (mixed - mixed.mean(-1, keepdims=True)) / np.sqrt(mixed.var(-1, keepdims=True) + 1e-5)
    assert layer(x, places).detach().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_alpha_weighs_the_filter_against_attention() -> None:
    states = []
    for alpha in (0.25, 0.75, 1.0):
        torch.manual_seed(0)
        network = Bsarec(9, BsarecConfig(dim=8, max_length=6, alpha=alpha)).eval()
        block = network.encoder.blocks[0]
        x = torch.randn(2, 4, 8)
        states.append(block.attend(x, None, None))
    # A mixture is linear in alpha: the middle of 0.25 and 0.75 plus half their difference is alpha 1.
    torch.testing.assert_close(states[1] + (states[1] - states[0]) / 2, states[2])


def test_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="prefixes must be true"):
        dataclasses.replace(BsarecConfig(), prefixes=False)
