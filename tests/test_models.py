"""Every model × every property of the contract."""

import copy
import functools
import inspect
import itertools
import json
import math

import pytest
import torch
from cases import MODELS, perturbed

import triptych
from triptych.capabilities import Encodes, HasDensity, HasPosterior, require
from triptych.core import GenerativeModel
from triptych.errors import TriptychError
from triptych.gan import Adversarial
from triptych.parts import describe
from triptych.randomness import seeded

pytestmark = pytest.mark.parametrize("name", MODELS)


def made(name):
    case = MODELS[name]
    with seeded(0):
        model = case.model().eval()
    return model, case.stored(4)


def test_shapes_and_finite(name, generator):
    model, stored = made(name)
    x = model.codec.encode(stored, generator)
    assert x.shape == stored.shape and x.dtype == torch.float32
    assert model.sample(3, temperature=0.5, generator=generator).shape == (3, *model.event_shape)
    if adversarial(model):
        assert model.logits(x).shape == (4,) and model.logits(x).isfinite().all()
    if isinstance(model, Encodes):
        z = model.encode(x)
        assert z.shape == (4, model.latent_dim)
        assert model.decode(z).shape == x.shape
    if adversarial(model):
        return
    log_p = model.log_prob(x, k=3, generator=generator)
    assert log_p.shape == (4,) and log_p.isfinite().all()


def adversarial(model):
    """Whether it has no density, but a discriminator: a GAN."""
    return isinstance(model, Adversarial) and not isinstance(model, HasDensity)


def seen(model, x):
    """What the model makes of x: z, or a discriminator's logits where there is no encoder."""
    return model.encode(x) if isinstance(model, Encodes) else model.logits(x)


def exact(model):
    """Whether log p is the model's own: a flow."""
    return isinstance(model, HasDensity) and model.bound == "exact"


def test_pictures_stay_in_range(name, generator):
    """What is read, and what decoders return whose last layer has a range; a flow's samples may leave it, not its bytes."""
    model, stored = made(name)
    if not model.codec.is_picture:
        return
    sample = model.sample(8, generator=generator)
    for x in (model.codec.encode(stored, generator), model.codec.centre(stored), *([] if exact(model) else [sample])):
        assert x.min() >= 0 and x.max() <= 1
    assert sample.isfinite().all() and model.codec.decode(sample).dtype == torch.uint8


def test_exact_models_give_everything_back(name, generator):
    model, stored = made(name)
    if not exact(model):
        return
    x = model.codec.encode(stored, generator)
    assert model.latent_dim == math.prod(model.event_shape)
    with torch.no_grad():
        back = model.decode(model.encode(x))
        torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
        assert (model.encode(x) - x.flatten(1)).abs().max() > 0.1  # not the identity
        z = torch.randn(4, model.latent_dim, generator=generator)
        if "variational" not in name:  # there a sample's noise is moved off a level's ends
            torch.testing.assert_close(model.encode(model.decode(z)), z, atol=1e-3, rtol=1e-3)
        if model.codec.is_picture:
            for read in (x, model.codec.centre(stored)):
                back = model.codec.decode(model.decode(model.encode(read)))
                assert torch.equal(back, model.codec.decode(read))  # every byte


def test_exact_likelihoods_change_variables(name, generator):
    """log p(x) = log N(z; 0, I) + log |det ∂z/∂x|, the Jacobian being autograd's; in float64."""
    model, stored = made(name)
    if not exact(model) or model.latent_dim > 64:
        return
    model.double()
    x = model.codec.encode(stored, generator)[:2].double()
    z = model.encode(x)
    jacobian = [torch.autograd.functional.jacobian(model.encode, row[None]).reshape([model.latent_dim] * 2) for row in x]
    ladj = torch.stack([torch.linalg.slogdet(j).logabsdet for j in jacobian])
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    atol = 1e-6 if "low-rank" in name else 1e-7  # a reflection that was stored in float32 has a determinant of 1 ± 1e-7
    torch.testing.assert_close(model.log_prob(x), normal + ladj, atol=atol, rtol=1e-9)


def test_data_that_are_not_finite_are_refused_by_exact_models(name):
    model, stored = made(name)
    if not exact(model):
        return
    x = model.codec.centre(stored)
    for value in (math.nan, math.inf):
        x.view(-1)[3] = value
        for use in (model.encode, model.log_prob):
            with pytest.raises(TriptychError, match="NaN or infinity"):
                use(x)


def test_batch_independence(name, generator):
    model, stored = made(name)
    x = model.codec.encode(stored, generator)
    z = torch.randn(4, model.latent_dim, generator=generator)
    if isinstance(model, Encodes):  # a discriminator looks at a batch as a whole
        alone = torch.cat([model.encode(row[None]) for row in x])
        torch.testing.assert_close(model.encode(x), alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.decode(z), torch.cat([model.decode(r[None]) for r in z]), atol=1e-5, rtol=1e-4)


def test_sampling_is_reproducible_and_leaves_torch_alone(name):
    model, _ = made(name)
    state = torch.get_rng_state()
    a, b = (model.sample(2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(state, torch.get_rng_state())


def test_temperature_zero_is_the_mean_of_the_prior(name):
    """Of the prior's noise, or of what a generator's first layer makes of it: one example, whatever is drawn."""
    model, _ = made(name)
    cold = model.sample(2, temperature=0)
    torch.testing.assert_close(cold[0], cold[1])
    if not adversarial(model):
        torch.testing.assert_close(cold, model.decode(torch.zeros(2, model.latent_dim)))


def test_the_spread_of_samples_falls_with_the_temperature(name):
    model, _ = made(name)
    if not isinstance(model, Adversarial):
        return
    apart = {}
    for temperature in (1.0, 0.75, 0.5, 0.25, 0.0):
        samples = model.sample(64, temperature=temperature, generator=torch.Generator().manual_seed(0))
        apart[temperature] = torch.pdist(samples.flatten(1)).mean().item()
        if temperature == 1:
            z = model.sample_prior(64, generator=torch.Generator().manual_seed(0))
            assert torch.equal(samples, model.decode(z, model.check_context(None, 64)))
    share = {temperature: value / apart[1.0] for temperature, value in apart.items()}
    assert share[0.75] < 0.95 and share[0.5] < 0.8 and share[0.25] < 0.55 and share[0.0] < 1e-4, share
    assert all(low < 0.9 * high for high, low in itertools.pairwise(share.values())), share


def test_a_first_layer_and_the_rest_are_the_generator(name, generator):
    model, _ = made(name)
    if not adversarial(model):
        return
    z = torch.randn(3, model.latent_dim, generator=generator)
    context = torch.randn(3, model.context_dim, generator=generator) if model.context_dim else None
    with torch.no_grad():
        torch.testing.assert_close(model.render(model.features(z, context), context), model.decode(z, context))


def test_save_and_load(name, tmp_path):
    model, stored = made(name)
    model.save_pretrained(tmp_path / "m")
    loaded = triptych.load(tmp_path / "m")
    assert type(loaded) is type(model) and describe(loaded) == describe(model)
    assert describe(loaded.codec) == describe(model.codec) and loaded.event_shape == model.event_shape
    x = model.codec.centre(stored)
    torch.testing.assert_close(seen(loaded, x), seen(model, x), atol=1e-6, rtol=1e-5)
    assert describe(type(model).from_pretrained(tmp_path / "m")) == describe(model)
    files = {p.name for p in (tmp_path / "m").iterdir()}
    assert files == {"recipe.json", "model.safetensors", "README.md"}
    assert "pickle" not in (tmp_path / "m" / "model.safetensors").read_bytes()[:200].decode("latin1")


def widen(described):
    """Adds 1 to the sizes of every network in a model's description."""
    for key, value in described.items() if isinstance(described, dict) else enumerate(described):
        if key in ("width", "coupling_width"):
            described[key] = value + 1
        elif key == "hidden":
            described[key] = [n + 1 for n in value]
        elif isinstance(value, dict | list):
            widen(value)


def test_another_shape_is_refused(name, tmp_path):
    model, _ = made(name)
    model.save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "recipe.json"
    described = json.loads(path.read_text())
    widen(described["model"])
    path.write_text(json.dumps(described))
    with pytest.raises(TriptychError, match="does not fit its recipe"):
        triptych.load(tmp_path / "m")


def test_errors_name_shapes(name):
    model, stored = made(name)
    with pytest.raises(TriptychError, match="got"):
        seen(model, torch.zeros(2, 1, *model.event_shape[1:], 3))
    with pytest.raises(TriptychError, match="z should be"):
        model.decode(torch.zeros(2, model.latent_dim + 1))
    with pytest.raises(TriptychError, match="n should be"):
        model.sample(0)
    if adversarial(model):
        return
    with pytest.raises(TriptychError, match="k should be"):
        model.log_prob(model.codec.encode(stored), k=0)


def test_importance_bound_tightens(name):
    model, stored = made(name)
    if adversarial(model):
        return
    x = model.codec.encode(stored, torch.Generator().manual_seed(0))
    if exact(model):  # nothing to tighten: the same number without chance
        assert torch.equal(model.log_prob(x, k=20), model.log_prob(x, generator=torch.Generator().manual_seed(7)))
        return
    draws = {k: torch.stack([model.log_prob(x, k=k) for _ in range(30)]).mean(0) for k in (1, 20)}
    assert (draws[20] >= draws[1] - 0.2).all()


def test_copies_are_independent(name):
    model, stored = made(name)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    x = model.codec.centre(stored)
    assert not torch.allclose(seen(model, x), seen(twin, x))
    z = torch.ones(2, model.latent_dim)
    assert not torch.allclose(model.decode(z), twin.decode(z))


def test_bits_per_dim_agrees_with_nats(name):
    model, stored = made(name)
    if adversarial(model):
        with pytest.raises(TriptychError, match=r"has no density|needs a model of 8-bit pixels"):
            triptych.bits_per_dim(model, stored)
        return
    try:
        depth = model.codec.added_bits(model.measure)
    except TriptychError:
        with pytest.raises(TriptychError, match="needs a model of 8-bit pixels"):
            triptych.bits_per_dim(model, stored)
        return
    bits = triptych.bits_per_dim(model, stored, k=1, generator=torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        nats = model.log_prob(model.codec.encode(stored, g), k=1, generator=g).double().mean().item()
    expected = -nats / (math.prod(model.event_shape) * math.log(2)) + depth
    assert bits.value == pytest.approx(expected, rel=1e-6) and bits.n == 4 and bits.stderr > 0


@functools.cache
def _kinds():
    return {type(c.model()).__name__ for c in MODELS.values()}


def test_every_public_model_has_a_case(name):
    public = {n for n in triptych.__all__ if inspect.isclass(o := getattr(triptych, n)) and issubclass(o, GenerativeModel)}
    assert public == _kinds()


def test_require_names_the_alternative(name):
    with pytest.raises(TriptychError, match=r"triptych\.edit\.invert"):
        require(torch.nn.Identity(), Encodes)
    model, _ = made(name)
    if not isinstance(model, Encodes):
        with pytest.raises(TriptychError, match=r"triptych\.edit\.invert"):
            require(model, Encodes)
        with pytest.raises(TriptychError, match=r"triptych\.edit\.invert"):
            model.encode(None)
    else:
        assert require(model, Encodes) is model
    if not isinstance(model, HasPosterior):
        with pytest.raises(TriptychError, match=r"has no q\(z\|x\)"):
            model.posterior(None)


def test_the_context_is_checked(name):
    model, _ = made(name)
    z = torch.zeros(2, model.latent_dim)
    if not model.context_dim:
        with pytest.raises(TriptychError, match="trained without a condition"):
            model.decode(z, torch.zeros(2, 3))
        return
    for shape in ((2, model.context_dim + 1), (3, model.context_dim), (model.context_dim,)):
        with pytest.raises(TriptychError, match="context should be"):
            model.decode(z, torch.zeros(*shape))


def test_zeros_are_an_unknown_context(name, generator):
    model, stored = made(name)
    if not model.context_dim:
        return
    perturbed(model)
    x, zeros = model.codec.centre(stored), torch.zeros(4, model.context_dim)
    z = torch.randn(4, model.latent_dim, generator=generator)
    for use, given in ((model.decode, z), *(((model.encode, x),) if isinstance(model, Encodes) else ())):
        torch.testing.assert_close(use(given), use(given, zeros))
        torch.testing.assert_close(use(given, torch.ones(1, model.context_dim)), use(given, torch.ones_like(zeros)))


def test_the_context_changes_what_is_made_and_scored(name, generator):
    model, stored = made(name)
    if not model.context_dim:
        return
    perturbed(model)
    z, ones = torch.randn(4, model.latent_dim, generator=generator), torch.ones(4, model.context_dim)
    assert not torch.allclose(model.decode(z), model.decode(z, ones))
    a, b = (model.sample(2, context=c, generator=torch.Generator().manual_seed(5)) for c in (None, ones[:1]))
    assert not torch.allclose(a, b)
    if isinstance(model, HasDensity):
        x = model.codec.encode(stored, generator)
        a, b = (model.log_prob(x, c, k=2, generator=torch.Generator().manual_seed(5)) for c in (None, ones))
        assert not torch.allclose(a, b)
