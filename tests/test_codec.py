"""Stored values and model coordinates."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import triptych
from triptych.codec import Codec, bits_per_dim
from triptych.core import Estimate, GenerativeModel, HasDensity
from triptych.errors import TriptychError

EVERY = torch.arange(256, dtype=torch.uint8).repeat(16)[:, None]


@given(bits=st.integers(1, 8), reading=st.sampled_from(["dequantise", "centre"]), seed=st.integers(0, 99))
def test_every_value_comes_back_at_its_depth(bits, reading, seed):
    codec = Codec(reading, bits)
    x = codec.encode(EVERY, torch.Generator().manual_seed(seed))
    assert x.min() >= 0 and x.max() < 1
    back = codec.decode(x)
    assert torch.equal(back >> (8 - bits), EVERY >> (8 - bits))
    if bits == 8:
        assert torch.equal(back, EVERY)


def test_dequantisation_is_uniform_inside_a_bin():
    from scipy.stats import kstest

    stored = torch.full((4000, 1), 37, dtype=torch.uint8)
    u = Codec("dequantise").encode(stored, torch.Generator().manual_seed(0))[:, 0] * 256 - 37
    assert kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_the_top_bin_stays_below_one():
    ones = torch.full((200_000, 1), 255, dtype=torch.uint8)
    assert Codec("dequantise").encode(ones).max() < 1


def test_binarisation_has_the_pixel_as_its_mean():
    x = Codec("binarise").encode(EVERY.repeat(60, 1), torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    mean = x.view(-1, 256).mean(0)
    standard_error = (mean * (1 - mean) / 960).sqrt() + 1e-3
    assert ((mean - torch.arange(256) / 255).abs() < 5 * standard_error).all()
    assert mean[0] == 0 and mean[255] == 1


def test_binarisation_is_fresh():
    stored = torch.full((1, 1000), 128, dtype=torch.uint8)
    assert not torch.equal(Codec("binarise").encode(stored), Codec("binarise").encode(stored))


@pytest.mark.parametrize("reading", ["dequantise", "centre", "binarise"])
def test_floats_are_refused_by_pixel_codecs(reading):
    with pytest.raises(TriptychError, match="8-bit pixels"):
        Codec(reading).encode(torch.rand(2, 3))


def test_nan_and_integers_are_refused_by_the_plain_codec():
    with pytest.raises(TriptychError, match="NaN"):
        Codec("none").encode(torch.tensor([[float("nan")]]))
    with pytest.raises(TriptychError, match="floats"):
        Codec("none").encode(torch.tensor([[1]]))


def test_bad_settings_are_named():
    with pytest.raises(TriptychError, match="reading should be"):
        Codec("grey")
    with pytest.raises(TriptychError, match="bits"):
        Codec("centre", bits=9)


def test_an_edited_picture_is_clamped_not_wrapped():
    x = torch.tensor([[-0.3, 1.4, float("nan")]])
    assert Codec("centre").decode(x).tolist() == [[0, 255, 0]]


def test_bernoulli_refuses_grey_values():
    model = triptych.VAE((4,), 2, hidden=(3,))
    with pytest.raises(TriptychError, match="grey values"):
        model.log_prob(torch.full((1, 4), 0.5))


class Uniform(GenerativeModel, HasDensity):
    """p(x) = 1 on [0, 1]^D: the code length of 8-bit pixels is 8 bits, exactly."""

    bound, measure = "exact", "density"

    def __init__(self):
        super().__init__((1, 2, 2), 4, Codec("dequantise"), {})
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def decode(self, z):
        return torch.special.ndtr(z).view(-1, *self.event_shape)

    def log_prob(self, x, *, k=1, generator=None):
        return torch.zeros(len(x))


def test_the_uniform_density_costs_eight_bits():
    pixels = torch.randint(0, 256, (10, 1, 2, 2), dtype=torch.uint8)
    assert bits_per_dim(Uniform(), pixels) == Estimate(8.0, 0.0, 10)


def test_a_perfect_mass_costs_its_entropy():
    """A discretised logistic with a tiny scale at a known pixel: nearly 0 bits."""
    model = triptych.VAE((1, 4, 4), 1, hidden=(2,), likelihood="logistic")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.likelihood.log_scale.fill_(-9.0)
        bias = model.decoder[-1].bias
        bias.fill_(math.log(100.5 / (256 - 100.5)))
    pixels = torch.full((3, 1, 4, 4), 100, dtype=torch.uint8)
    assert bits_per_dim(model, pixels).value < 0.5
