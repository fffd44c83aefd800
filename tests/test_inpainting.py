"""Filling in: against conditionals that are known, and the ten masks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import triptych
from triptych import edit, vae
from triptych.capabilities import HasDensity
from triptych.codecs import Dequantised, Floats
from triptych.core import GenerativeModel
from triptych.errors import TriptychError


class Gaussian(GenerativeModel, HasDensity):
    """N(m, A Aᵀ) of three values, whose conditionals are known; the codec says whether they are kept in [0, 1]."""

    bound, measure = "exact", "density"

    def __init__(self, mean, factor, codec=None):
        super().__init__((len(mean),), len(mean), codec or Floats())
        self.mean = torch.nn.Parameter(torch.tensor(mean))
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def decode(self, z, context=None):
        return self.mean + z @ self.factor.T

    def log_prob(self, x, context=None, *, k=1, generator=None):
        return torch.distributions.MultivariateNormal(self.mean, scale_tril=self.factor).log_prob(x)

    def conditional(self, x, hidden):
        """The mean and the covariance of what is hidden, given what is seen."""
        covariance = (self.factor @ self.factor.T).detach()
        gain = covariance[hidden][:, ~hidden] @ covariance[~hidden][:, ~hidden].inverse()
        mean = self.mean.detach()[hidden] + gain @ (x - self.mean.detach())[~hidden]
        return mean, covariance[hidden][:, hidden] - gain @ covariance[~hidden][:, hidden]


MEAN = [3.0, -20.0, 0.5]
FACTOR = [[0.5, 0.0, 0.0], [6.0, 8.0, 0.0], [0.002, -0.001, 0.003]]  # spreads from 0.004 to 10
SEEN = torch.tensor([4.0, 0.0, 0.0])


@pytest.fixture
def gaussian():
    return Gaussian(MEAN, FACTOR)


def fill(model, hidden, generator, n=400, **options):
    x = SEEN.repeat(n, 1)
    return edit.inpaint(model, x, torch.tensor(hidden), generator=generator, **options)


@pytest.mark.parametrize("hidden", [[False, True, True], [False, False, True], [True, False, False]])
def test_langevin_draws_from_the_conditional(gaussian, generator, hidden):
    mean, covariance = gaussian.conditional(SEEN, torch.tensor(hidden))
    filled = fill(gaussian, hidden, generator, n=1500, steps=1500, temperature=1.0)[:, hidden]
    spread = covariance.diagonal().sqrt()
    assert ((filled.mean(0) - mean).abs() / spread < 0.15).all()
    torch.testing.assert_close(filled.std(0) / spread, torch.ones_like(spread), atol=0.08, rtol=0)


@pytest.mark.parametrize("temperature", [None, 0.0])
def test_the_papers_noise_cools_towards_the_mode(gaussian, generator, temperature):
    hidden = [False, True, True]
    mean, covariance = gaussian.conditional(SEEN, torch.tensor(hidden))
    filled = fill(gaussian, hidden, generator, steps=3000, temperature=temperature)[:, hidden]
    error = (filled - mean) / covariance.diagonal().sqrt()
    assert error.square().mean().sqrt() < (0.15 if temperature is None else 0.05)
    assert error.mean(0).abs().max() < 0.05


def test_one_step_is_the_papers_formula(gaussian):
    """σ = 1, from a given start: x + α₀ (∂log p/∂x + ε), with α₀ = 10/100."""
    x, start, hidden = SEEN[None], torch.tensor([[9.0, -2.0, 0.51]]), torch.tensor([False, True, True])
    filled = edit.inpaint(gaussian, x, hidden, steps=1, scale=1.0, start=start, generator=torch.Generator().manual_seed(5))
    epsilon = torch.randn(1, 3, generator=torch.Generator().manual_seed(5))
    at = torch.where(hidden, start, x).requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian.log_prob(at).sum(), at)
    expected = torch.where(hidden, at.detach() + 0.1 * (gradient + epsilon), x)
    torch.testing.assert_close(filled, expected)
    scaled = edit.inpaint(gaussian, x, hidden, steps=1, scale=0.5, start=start, temperature=0.0)
    torch.testing.assert_close(scaled, torch.where(hidden, at.detach() + 0.1 * 0.25 * gradient, x))


@pytest.mark.parametrize("memory", ["full", "checkpoint", "reversible"])
def test_what_is_seen_stays_to_the_bit_and_what_is_hidden_is_never_read(generator, memory):
    model = triptych.Glow((1, 4, 4), levels=1, depth=2, width=4, memory=memory)
    model.initialize(torch.rand(32, 1, 4, 4, generator=generator))
    x = torch.rand(3, 1, 4, 4, generator=generator)
    hidden = torch.stack([edit.mask(name, (1, 4, 4)) for name in ("top", "odd", "right")])  # one for each example
    before = {name: value.clone() for name, value in model.state_dict().items()}
    results = []
    for unknown in (float("nan"), 0.25):
        seen = x.masked_fill(hidden, unknown)
        results.append(edit.inpaint(model, seen, hidden, steps=5, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(*results)
    filled = results[0]
    assert torch.equal(filled[~hidden], x[~hidden]) and not torch.equal(filled[hidden], x[hidden])
    assert filled.min() >= 0 and filled.max() <= 1 and not filled.requires_grad
    after = {name: value for name, value in model.state_dict().items() if not name.endswith("drift")}  # a measurement
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert all(p.grad is None for p in model.parameters())


def test_nothing_hidden_changes_nothing(gaussian):
    x = torch.randn(2, 3)
    assert torch.equal(edit.inpaint(gaussian, x, torch.zeros(3, dtype=torch.bool), steps=2), x)


def test_pictures_stay_in_range_where_the_step_is_far_too_long():
    model = Gaussian([0.5] * 3, [[0.001, 0.0, 0.0], [0.0, 0.001, 0.0], [0.0, 0.0, 0.001]], Dequantised())
    filled = edit.inpaint(model, torch.full((4, 3), 0.5), torch.tensor([True, True, False]), steps=7, scale=1.0)
    assert filled.min() >= 0 and filled.max() <= 1


def test_the_batch_is_filled_in_by_parts(gaussian, generator, monkeypatch):
    import triptych.edit.inpainting as inpainting

    monkeypatch.setattr(inpainting, "_VALUES", 9)
    sizes, log_prob = [], gaussian.log_prob
    monkeypatch.setattr(gaussian, "log_prob", lambda x, *c, **k: sizes.append(len(x)) or log_prob(x, *c, **k))
    assert fill(gaussian, [True, False, False], generator, n=7, steps=2).shape == (7, 3)
    assert max(sizes) == 3


def test_the_model_stays_in_its_mode(gaussian, generator):
    for training in (True, False):
        gaussian.train(training)
        fill(gaussian, [True, False, False], generator, n=2, steps=1)
        assert gaussian.training is training


def test_a_gaussian_vae_is_filled_in_too(generator):
    model = triptych.VAE((1, 4, 4), 2, likelihood=vae.Gaussian((1, 4, 4)))
    filled = edit.inpaint(model, torch.rand(2, 1, 4, 4), edit.mask("left", (1, 4, 4)), steps=3, generator=generator)
    assert filled.isfinite().all()


def test_a_trained_like_density_rises(generator):
    """From a start at noise, the default scale climbs where the paper's own oscillates between 0 and 1."""
    model = Gaussian([0.5, 0.4, 0.6], [[0.1, 0.0, 0.0], [0.1, 0.004, 0.0], [0.1, 0.0, 0.01]], Dequantised())
    x, hidden = torch.tensor([[0.55, 0.0, 0.0]]).repeat(20, 1), torch.tensor([False, True, True])
    start = torch.rand(20, 3, generator=generator)
    after = {}
    for scale in (None, 1.0):
        filled = edit.inpaint(model, x, hidden, steps=500, scale=scale, start=start, generator=generator)
        after[scale] = model.log_prob(filled).mean().item()
    assert after[None] > model.log_prob(model.sample(100, generator=generator)).mean() > after[1.0] + 1000


def test_errors_are_for_people(gaussian, generator):
    x, hidden = torch.zeros(2, 3), torch.tensor([True, False, False])
    rotation = torch.nn.Linear(3, 3)
    with pytest.raises(TriptychError, match="model should be a GenerativeModel, got a Linear"):
        edit.inpaint(rotation, x, hidden)
    with pytest.raises(TriptychError, match="a mass of discrete values: use a flow"):
        edit.inpaint(triptych.VAE((3,), 2, likelihood=vae.Bernoulli(codec=Floats())), x, hidden)
    wrong = {
        r"should be \(3,\) or \(2, 3\), got \(4,\)": {"mask": torch.ones(4, dtype=torch.bool)},
        "bool, True where hidden": {"mask": torch.ones(3)},
        "hides everything": {"mask": torch.tensor([[True, False, True], [True, True, True]])},
        "NaN or infinity: hide them": {"x": torch.full((2, 3), float("nan"))},
        r"takes \(B, 3\)": {"x": torch.zeros(2, 4)},
        "steps should be": {"steps": 0},
        "temperature should be": {"temperature": math.inf},
        "scale should be positive": {"scale": 0.0},
        "broadcast": {"scale": torch.ones(2)},
        "start should": {"start": torch.zeros(3)},
        "smaller scale": {"scale": 1e19, "steps": 20},
    }
    for message, changed in wrong.items():
        options = {"x": x, "mask": hidden, "steps": 2, "generator": generator, **changed}
        with pytest.raises(TriptychError, match=message):
            edit.inpaint(gaussian, options.pop("x"), options.pop("mask"), **options)


@given(rows=st.integers(2, 11), columns=st.integers(2, 11), channels=st.integers(1, 3))
def test_masks_have_their_shares(rows, columns, channels):
    shape, places = (channels, rows, columns), rows * columns
    shares = {}
    for name in edit.MASKS:
        hidden = edit.mask(name, shape, torch.Generator().manual_seed(0))
        assert hidden.dtype == torch.bool and hidden.shape == shape
        assert (hidden == hidden[:1]).all()
        shares[name] = int(hidden[0].sum())
    for one, other in (("top", "bottom"), ("left", "right"), ("odd", "even")):
        assert (edit.mask(one, shape) ^ edit.mask(other, shape)).all()
    assert shares["top"] == rows // 2 * columns and shares["left"] == columns // 2 * rows
    assert shares["even"] == places // 2
    assert shares["middle-horizontal"] == rows // 2 * columns and shares["middle-vertical"] == columns // 2 * rows
    assert abs(shares["random-75"] - 0.75 * places) <= 0.5 and abs(shares["random-90"] - 0.9 * places) <= 0.5


def test_masks_are_where_the_paper_has_them():
    """The authors' code on 28 × 28 (1 is observed there): m[:392] = 0, m[::2] = 0, m[196:588] = 0, and so on."""
    flat = {name: edit.mask(name, (1, 28, 28)).flatten() for name in edit.MASKS}
    assert flat["top"][:392].all() and not flat["top"][392:].any()
    assert flat["odd"][::2].all() and not flat["odd"][1::2].any()
    assert flat["middle-horizontal"][196:588].all() and flat["middle-horizontal"].sum() == 392
    assert flat["middle-vertical"].view(28, 28)[:, 7:21].all() and flat["middle-vertical"].sum() == 392
    assert flat["left"].view(28, 28)[:, :14].all() and flat["left"].sum() == 392
    drawn = [edit.mask("random-90", (1, 28, 28), torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_masks_of_vectors_and_sequences():
    assert edit.mask("odd", (5,)).tolist() == [True, False, True, False, True]
    assert edit.mask("left", (2, 4)).tolist() == [[True, True, False, False]] * 2
    assert edit.mask("random-75", (2, 8)).shape == (2, 8)
    with pytest.raises(TriptychError, match="is for pictures"):
        edit.mask("top", (8,))
    with pytest.raises(TriptychError, match=r"did you mean middle-vertical.*top, bottom, .*random-90"):
        edit.mask("middle-vertica", (1, 4, 4))
    with pytest.raises(TriptychError, match="top, bottom"):
        edit.mask("x", (1, 4, 4))
    with pytest.raises(TriptychError, match="sizes"):
        edit.mask("odd", (1, 0, 4))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A tiny untrained VAE and Glow, saved, and four pictures."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("inpainting")
    torch.manual_seed(0)
    triptych.VAE((3, 8, 8), 4).save_pretrained(root / "vae")
    glow = triptych.Glow((3, 8, 8), levels=1, depth=2, width=4)
    glow.initialize(torch.rand(32, 3, 8, 8))
    glow.save_pretrained(root / "glow")
    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / f"{i}.png")
    return root


def command(*words):
    from triptych.cli import main

    return main([str(word) for word in words])


def opened(path):
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture)


def test_inpainting_on_the_command_line(workplace, tmp_path, capsys):
    out = tmp_path / "filled.png"
    words = ["edit", workplace / "glow", workplace / "0.png", workplace / "1.png", "--inpaint", "top", "--steps", "3"]
    assert command(*words, "--out", out) == 0
    sheet = opened(out)  # two rows of two pictures of 64 pixels, 2 apart
    assert sheet.shape == (2 * 66 + 2, 2 * 66 + 2, 3)
    tiles = [[sheet[y : y + 64 : 8, x : x + 64 : 8] for x in (2, 68)] for y in (2, 68)]
    for (hole, filled), name in zip(tiles, ("0.png", "1.png"), strict=True):
        assert (hole[:4] == 128).all() and (hole[4:] == opened(workplace / name)[4:]).all()
        assert (filled[4:] == hole[4:]).all() and (filled[:4] != 128).any()
    assert command(*words, "--out", tmp_path / "again.png") == 0
    assert (opened(tmp_path / "again.png") == sheet).all()
    assert command(*words, "--seed", "1", "--out", tmp_path / "other.png") == 0
    assert (opened(tmp_path / "other.png") != sheet).any()


def test_a_square_of_four_pictures_on_the_command_line(workplace, tmp_path):
    pictures = [workplace / f"{i}.png" for i in range(4)]
    assert command("mix", workplace / "glow", *pictures, "--steps", "4", "--out", tmp_path / "square.png") == 0
    sheet = opened(tmp_path / "square.png")
    assert sheet.shape == (4 * 66 + 2, 4 * 66 + 2, 3)
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]  # of φ and φ', 0 or π/2
    for (i, j), path in zip(corners, pictures, strict=True):
        tile = sheet[2 + 66 * i : 66 + 66 * i : 8, 2 + 66 * j : 66 + 66 * j : 8].astype(int)
        assert abs(tile - opened(path)).max() <= 1
    assert command("mix", workplace / "vae", *pictures[:2], "--out", tmp_path / "walk.png") == 0
    assert opened(tmp_path / "walk.png").shape == (68, 9 * 66 + 2, 3)
    assert command("mix", workplace / "vae", *pictures, "--out", tmp_path / "square.png") == 0
    assert opened(tmp_path / "square.png").shape == (8 * 66 + 2, 8 * 66 + 2, 3)


@pytest.mark.parametrize("family", ["vae", "glow"])
def test_temperatures_share_z(workplace, tmp_path, family):
    import numpy as np

    run = workplace / family
    assert command("sample", run, "--n", "3", "--temperature", "0,0.5,1", "--out", tmp_path / "rows.npy") == 0
    rows = np.load(tmp_path / "rows.npy").reshape(3, 3, 3, 8, 8)
    assert (rows[0] == rows[0, 0]).all() and (rows[1] != rows[2]).any()
    for row, temperature in zip(rows, ("0", "0.5", "1"), strict=True):
        words = ["sample", run, "--n", "3", "--temperature", temperature, "--out", tmp_path / "one.npy"]
        assert command(*words) == 0
        assert (np.load(tmp_path / "one.npy") == row).all()
    assert command("sample", run, "--temperature", "0.25,0.5,0.7,1", "--out", tmp_path / "grid.png") == 0
    assert opened(tmp_path / "grid.png").shape == (4 * 66 + 2, 8 * 66 + 2, 3)


def test_command_line_errors_are_one_line(workplace, tmp_path, capsys):
    glow, picture = workplace / "glow", workplace / "0.png"
    wrong = {
        "one of --set": ["edit", glow, picture, "--inpaint", "top", "--sweep", "a=0:1:2"],
        "middle-vertical": ["edit", glow, picture, "--inpaint", "middle"],
        "--steps": ["edit", glow, picture, "--inpaint", "top", "--steps", "0"],
        "--seed": ["edit", glow, picture, "--inpaint", "top", "--seed", "-1"],
        "use a flow": ["edit", workplace / "vae", picture, "--inpaint", "top"],
        "got 3": ["mix", glow, picture, picture, picture],
        "from 2 to 1000": ["mix", glow, picture, picture, picture, picture, "--steps", "1"],
        "0.25,0.5,1": ["sample", glow, "--temperature", "0.5,,1"],
        "got '0.5,-1'": ["sample", glow, "--temperature", "0.5,-1"],
        "too many for one sheet": ["sample", glow, "--temperature", "0.5,1", "--n", "60000"],
    }
    for part, words in wrong.items():
        capsys.readouterr()
        assert command(*words, "--out", tmp_path / "x.png") == 2
        said = capsys.readouterr().err
        assert said.startswith("triptych: ") and said.count("\n") == 1 and part in said, said
    assert not (tmp_path / "x.png").exists()
