"""Stored values and model coordinates; attributes and contexts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import triptych
from triptych import codecs
from triptych.capabilities import HasDensity
from triptych.codecs import Attribute, Binarised, BinCentres, Conditions, Dequantised, Floats
from triptych.core import Codec, Estimate, GenerativeModel
from triptych.errors import TriptychError
from triptych.evaluate import bits_per_dim, statistics
from triptych.nets import MLP
from triptych.parts import build, describe
from triptych.vae.likelihoods import DiscretisedLogistic

EVERY = torch.arange(256, dtype=torch.uint8).repeat(16)[:, None]


@given(bits=st.integers(1, 8), kind=st.sampled_from([Dequantised, BinCentres]), seed=st.integers(0, 99))
def test_every_value_comes_back_at_its_depth(bits, kind, seed):
    codec = kind(bits)
    x = codec.encode(EVERY, torch.Generator().manual_seed(seed))
    assert x.min() >= 0 and x.max() < 1
    back = codec.decode(x)
    assert torch.equal(back >> (8 - bits), EVERY >> (8 - bits))
    if bits == 8:
        assert torch.equal(back, EVERY)


def test_dequantisation_is_uniform_inside_a_bin():
    from scipy.stats import kstest

    stored = torch.full((4000, 1), 37, dtype=torch.uint8)
    u = Dequantised().encode(stored, torch.Generator().manual_seed(0))[:, 0] * 256 - 37
    assert kstest(u.numpy(), "uniform").pvalue > 1e-3


def test_the_top_bin_stays_below_one():
    ones = torch.full((200_000, 1), 255, dtype=torch.uint8)
    assert Dequantised().encode(ones).max() < 1


def test_binarisation_has_the_pixel_as_its_mean():
    x = Binarised().encode(EVERY.repeat(60, 1), torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    mean = x.view(-1, 256).mean(0)
    standard_error = (mean * (1 - mean) / 960).sqrt() + 1e-3
    assert ((mean - torch.arange(256) / 255).abs() < 5 * standard_error).all()
    assert mean[0] == 0 and mean[255] == 1


def test_binarisation_is_fresh():
    stored = torch.full((1, 1000), 128, dtype=torch.uint8)
    assert not torch.equal(Binarised().encode(stored), Binarised().encode(stored))


@pytest.mark.parametrize("codec", [Dequantised(), BinCentres(), Binarised()])
def test_floats_are_refused_by_pixel_codecs(codec):
    for read in (codec.encode, codec.centre):
        with pytest.raises(TriptychError, match="8-bit pixels"):
            read(torch.rand(2, 3))


def test_nan_and_integers_are_refused_by_floats():
    with pytest.raises(TriptychError, match="NaN"):
        Floats().encode(torch.tensor([[float("nan")]]))
    with pytest.raises(TriptychError, match="floats"):
        Floats().encode(torch.tensor([[1]]))


def test_bad_settings_are_named():
    for bits in (0, 9):
        with pytest.raises(TriptychError, match="bits"):
            BinCentres(bits)
    for mean, scale in (((0.0,), None), ((0.0,), (0.0,))):
        with pytest.raises(TriptychError, match="together, each scale above 0"):
            Floats(mean, scale)


@pytest.mark.parametrize("shape", [(50, 3), (50, 2, 7), (50, 2, 4, 5)])
def test_standardised_floats_have_mean_0_and_variance_1_in_each_feature(shape):
    stored = 5 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stored[:, 1] = 7.0
    codec = Floats.standardising(stored)
    x = codec.encode(stored)
    axes = [0, *range(2, x.ndim)]
    torch.testing.assert_close(x.mean(axes), torch.zeros(shape[1]), atol=1e-5, rtol=0)
    assert x.std(axes, correction=0)[0].item() == pytest.approx(1, abs=1e-5) and not x[:, 1].any()
    torch.testing.assert_close(codec.decode(x), stored)


@pytest.mark.parametrize("name", ["BinCentres", "Binarised", "Dequantised", "Floats"])
def test_a_codec_is_described_and_rebuilt(name):
    settings = {"mean": (1.0,), "scale": (2.0,)} if name == "Floats" else {"bits": 5}
    codec = getattr(codecs, name)(**settings)
    found = build(describe(codec), {name: type(codec)})
    assert type(found) is type(codec)
    stored = torch.rand(4, 1) if name == "Floats" else EVERY
    assert torch.equal(found.centre(stored), codec.centre(stored))


def test_a_codec_says_what_it_adds_and_how_an_example_is_shown():
    assert (Dequantised(5).added_bits("density"), BinCentres(5).added_bits("mass")) == (5, 0)
    for codec in (Binarised(), Floats()):
        with pytest.raises(TriptychError, match="report nats"):
            codec.added_bits("density")
    assert [c.noisy for c in (Dequantised(), BinCentres(), Binarised(), Floats())] == [True, False, False, False]
    x = torch.tensor([-1.0, 0.5, 2.0])
    assert Dequantised().project(x).tolist() == [0, 0.5, 1] and torch.equal(Floats().project(x), x)
    picture = torch.rand(2, 3, 8, 8)
    assert torch.equal(BinCentres().show(picture, (3, 8, 8)), BinCentres().decode(picture))
    assert BinCentres().show(picture[:, :2], (2, 8, 8)) is None and Floats().show(picture, (3, 8, 8)) is None


class Tenths(Codec):
    """A toy: whole numbers 0 … 10, read as tenths; written here and nowhere in the library."""

    name, is_picture = "tenths", False

    def encode(self, stored, generator=None):
        return self.check(stored) / 10

    centre = encode

    def decode(self, x):
        return (10 * x).round().clamp(0, 10).long()

    def check(self, stored):
        if stored.min() < 0 or stored.max() > 10:
            raise TriptychError("tenths should be whole numbers from 0 to 10")
        return stored


def test_a_codec_of_ones_own_reads_and_writes_a_models_data():
    model = Uniform(Tenths())
    stored = torch.randint(0, 11, (6, 1, 2, 2))
    assert statistics(model, stored)["log_prob"].tolist() == [0.0] * 6
    assert torch.equal(model.codec.decode(model.codec.centre(stored)), stored)
    with pytest.raises(TriptychError, match="from 0 to 10"):
        statistics(model, stored + 11)


# --- conditions

GIVEN = Conditions([Attribute("glasses", "binary"), Attribute("age", "continuous", mean=40, std=10),
                    Attribute("hair", "class", ("dark", "fair", "grey"))])  # fmt: skip


def test_attributes_become_a_context_in_which_zeros_are_unknown():
    nan = float("nan")
    context = GIVEN.encode({"hair": [2, nan], "glasses": [0, 1], "age": np.array([50, nan]), "other": [1, 2]})
    assert context.tolist() == [[-1, 1, 1, 0, 0, 1], [1, 0, 0, 0, 0, 0]]
    assert GIVEN.dim == 6 and not GIVEN.encode({}, 3).any()
    assert torch.equal(GIVEN.parse("hair=grey, glasses=no,age=50"), context[:1])
    assert not GIVEN.parse("").any() and not GIVEN.parse("age=unknown").any()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("glases=1", "unknown condition 'glases': did you mean glasses"),
        ("hair=red", "hair=red: expected one of dark, fair, grey"),
        ("glasses=often", "glasses=often: expected yes, no"),
        ("age=nan", "age=nan: expected a finite number"),
        ("age", "written name=value"),
    ],
)
def test_impossible_conditions_are_named(text, expected):
    with pytest.raises(TriptychError, match=expected) as error:
        GIVEN.parse(text)
    assert "\n" not in str(error.value)


def test_hidden_attributes_are_hidden_whole():
    context = GIVEN.encode({"glasses": [1] * 2000, "age": [50] * 2000, "hair": [1] * 2000})
    parts = (slice(0, 1), slice(1, 3), slice(3, 6))
    hidden = GIVEN.hide(context, 0.3)
    for part in parts:
        known = hidden[:, part].abs().sum(1) > 0
        assert known.double().mean().item() == pytest.approx(0.7, abs=0.05)
        assert torch.equal(hidden[known, part], context[known, part])
    assert torch.equal(GIVEN.hide(context, 0.0), context) and not GIVEN.hide(context, 1.0).any()


def test_conditions_are_described_and_rebuilt():
    values = {"age": np.array([20.0, 60.0, np.nan]), "hair": np.array([0.0, 1.0, 2.0])}
    made = Conditions.of(["age", "hair"], values, {"age": "continuous", "hair": "class"}, {"hair": ("a", "b", "c")})
    found = build(describe(made), {"Conditions": Conditions})
    assert found.attributes == made.attributes and torch.equal(found.encode(values), made.encode(values))
    with pytest.raises(TriptychError, match="unknown attribute 'hare': did you mean hair"):
        Conditions.of(["hare"], values, {})


def test_an_edited_picture_is_clamped_not_wrapped():
    x = torch.tensor([[-0.3, 1.4, -math.inf, math.inf]])
    assert BinCentres().decode(x).tolist() == [[0, 255, 0, 255]]


@pytest.mark.parametrize("codec", [BinCentres(), Binarised(), Floats()])
def test_outputs_that_are_nan_are_said(codec):
    with pytest.raises(TriptychError, match="the model's outputs are not finite"):
        codec.decode(torch.tensor([[0.5, math.nan]]))


def test_bernoulli_refuses_grey_values():
    model = triptych.VAE((1, 2, 2), 2)
    with pytest.raises(TriptychError, match="grey values"):
        model.log_prob(torch.full((1, 1, 2, 2), 0.5))


class Uniform(GenerativeModel, HasDensity):
    """p(x) = 1 on [0, 1]^D: the code length of 8-bit pixels is 8 bits, exactly."""

    bound, measure = "exact", "density"

    def __init__(self, codec=None):
        super().__init__((1, 2, 2), 4, codec or Dequantised())
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def decode(self, z, context=None):
        return torch.special.ndtr(z).view(-1, *self.event_shape)

    def log_prob(self, x, context=None, *, k=1, generator=None):
        return torch.zeros(len(x))


def test_the_uniform_density_costs_eight_bits():
    pixels = torch.randint(0, 256, (10, 1, 2, 2), dtype=torch.uint8)
    assert bits_per_dim(Uniform(), pixels) == Estimate(8.0, 0.0, 10)


def test_a_perfect_mass_costs_its_entropy():
    """A discretised logistic with a tiny scale at a known pixel: nearly 0 bits."""
    decoder = MLP((1,), (), 16)
    model = triptych.VAE((1, 4, 4), 1, decoder=decoder, likelihood=DiscretisedLogistic((1, 4, 4)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.likelihood.log_scale.fill_(-9.0)
        bias = decoder[-1].bias
        bias.fill_(math.log(100.5 / (256 - 100.5)))
    pixels = torch.full((3, 1, 4, 4), 100, dtype=torch.uint8)
    assert bits_per_dim(model, pixels).value < 0.5
