"""What can be plugged in: one's own networks, conditioner, codec and family, each added here, the package untouched."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import triptych
from triptych import families, parts, pretrained, recipes
from triptych.bijections import Affine, Chain, Conditioner, Coupling, Permutation
from triptych.capabilities import Encodes, HasDensity
from triptych.codecs import BinCentres
from triptych.core import Codec, GenerativeModel
from triptych.data import Split, Splits
from triptych.errors import NotSupported, TriptychError
from triptych.flow import Flow
from triptych.nets import MLP
from triptych.objectives.player import Loss, Player
from triptych.recipes import FlowObjective, Recipe, Training
from triptych.training.loop import fit
from triptych.training.precision import settled
from triptych.training.run import Run
from triptych.vae import Bernoulli

QUICK = Training(batch=8, log_every=5, save_every=5)


def pixels(n=40, shape=(3, 8, 8)):
    return Split(np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8))


class MyEncoder(nn.Module):
    """As a user writes one, torch's batch norm included."""

    def __init__(self, latent_dim: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten())
        self.head = nn.Linear(8 * 4 * 4, 2 * latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class MyDecoder(nn.Module):
    def __init__(self, latent_dim: int):
        super().__init__()
        self.body = nn.Linear(latent_dim, 3 * 8 * 8)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z).view(-1, 3, 8, 8)


def my_vae(event_shape):
    """What `--model module:my_vae` names."""
    return triptych.VAE(event_shape, 4, encoder=MyEncoder(4), decoder=MyDecoder(4))


def trained(tmp_path, recipe, model, data):
    run = Run.create(tmp_path / "run", recipe, model)
    fit(run, data, notice=lambda line: None)
    return run


def test_a_users_networks_train_and_get_their_weights_back(tmp_path):
    recipe = dataclasses.replace(families.preset("vae"), steps=10, training=QUICK)
    run = trained(tmp_path, recipe, my_vae((3, 8, 8)), pixels())
    with pytest.raises(TriptychError, match=r'"encoder": MyEncoder.*"decoder": MyDecoder.*--model'):
        triptych.load(run.folder)
    loaded = triptych.load(run.folder, encoder=MyEncoder(4), decoder=MyDecoder(4))
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.encode(x), run.averaged.encode(x))
    whole = triptych.load(run.folder, model=my_vae((3, 8, 8)))
    assert torch.equal(whole.encode(x), loaded.encode(x))


def test_a_users_model_on_the_command_line(tmp_path, monkeypatch):
    from triptych.cli import main

    (tmp_path / "mine.py").write_text(
        "import triptych\nfrom torch import nn\n"
        "def make(shape):\n"
        "    n = shape[0] * shape[1] * shape[2]\n"
        "    return triptych.VAE(shape, 4, encoder=nn.Sequential(nn.Flatten(), nn.Linear(n, 8)))\n"
    )
    monkeypatch.chdir(tmp_path)
    small = ["--steps", "4", "--training.batch", "8"]
    assert main(["train", "vae", "--model", "mine:make", "--data", "digits", "--out", "run", *small]) == 0
    assert main(["sample", "run", "--n", "2", "--out", "s.png"]) == 2  # its encoder is the user's: it has to be named
    assert main(["sample", "run", "--model", "mine:make", "--n", "2", "--out", "s.png"]) == 0
    assert main(["train", "--resume", "run", "--model", "mine:make", "--steps", "6"]) == 0
    assert main(["train", "vae", "--model", "mine:nothing", "--data", "digits", "--out", "other", *small]) == 2


def test_wrong_parts_are_named_in_one_line():
    x = torch.rand(2, 1, 4, 4)
    for parts_, said in (
        ({"encoder": nn.Flatten()}, r"encoder.*Flatten.*\(2, 6\).*\(2, 16\)"),
        ({"decoder": nn.Linear(3, 5)}, r"decoder.*Linear"),
    ):
        model = triptych.VAE((1, 4, 4), 3, likelihood=Bernoulli(), **parts_)
        with pytest.raises(TriptychError, match=said):
            model.encode(x) if "encoder" in parts_ else model.decode(torch.zeros(2, 3))
    gan = triptych.GAN((5,), 3, discriminator=nn.Linear(5, 2))
    with pytest.raises(TriptychError, match="discriminator"):
        gan.logits(torch.zeros(2, 5))
    gan = triptych.GAN((5,), 3, generator=nn.Linear(3, 4))
    with pytest.raises(TriptychError, match="generator"):
        gan.decode(torch.zeros(2, 3))
    with pytest.raises(TriptychError, match="prior"):
        triptych.VAE((5,), 3, prior=triptych.GAN((3,), 2))


class SelfAttention(Conditioner):
    """A conditioner whose positions look at one another: (B, C_in, *S) -> (B, C_out, *S)."""

    def __init__(self, inputs: int, outputs: int, width: int = 8):
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def compute(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(x.flatten(2).transpose(1, 2))
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.last(h).transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def attending_flow():
    layers = [layer for k in range(2) for layer in (Permutation([1, 2, 3, 0]), Coupling(SelfAttention(2, 4), Affine(), 2))]
    return Flow((4, 6), Chain([*layers, triptych.bijections.Flatten((4, 6))]))


def test_a_users_conditioner_makes_an_exact_flow(tmp_path):
    model = attending_flow().double().eval()
    x = torch.randn(3, 4, 6, dtype=torch.float64)
    z = model.encode(x)
    torch.testing.assert_close(model.decode(z), x, atol=1e-9, rtol=0)
    jacobian = torch.autograd.functional.jacobian(model.encode, x[:1]).reshape(24, 24)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z[:1]).sum(1)
    torch.testing.assert_close(model.log_prob(x[:1]), normal + torch.linalg.slogdet(jacobian).logabsdet)
    pretrained.save_model(attending_flow().eval(), tmp_path)
    with pytest.raises(TriptychError, match=r"bijection.parts.1.net.: SelfAttention.*parts.3.net"):
        triptych.load(tmp_path)
    own = {f"bijection.parts.{i}.net": SelfAttention(2, 4) for i in (1, 3)}
    assert triptych.load(tmp_path, **own).sample(2).shape == (2, 4, 6)


class MuLaw(Codec):
    """Sound: float samples in [−1, 1], companded as telephones do."""

    name: ClassVar[str] = "mu-law"
    is_picture: ClassVar[bool] = False
    centred: ClassVar[bool] = False

    def __init__(self, mu: float = 255.0):
        self.mu = mu

    def encode(self, stored, generator=None):
        v = self.check(stored)
        return v.sign() * torch.log1p(self.mu * v.abs()) / np.log1p(self.mu)

    def centre(self, stored):
        return self.encode(stored)

    def decode(self, x):
        return x.sign() * torch.expm1(x.abs() * np.log1p(self.mu)) / self.mu

    def check(self, stored):
        if stored.abs().max() > 1:
            raise TriptychError("sound should lie in [−1, 1]")
        return stored


def test_a_users_codec(tmp_path):
    model = triptych.GAN((1, 16), 4, codec=MuLaw())
    stored = torch.rand(5, 1, 16) * 2 - 1
    torch.testing.assert_close(model.codec.decode(model.codec.encode(stored)), stored, atol=1e-5, rtol=1e-4)
    pretrained.save_model(model, tmp_path)
    with pytest.raises(TriptychError, match="MuLaw"):
        triptych.load(tmp_path)
    assert triptych.load(tmp_path, codec=MuLaw()).codec.mu == 255


@dataclass(frozen=True)
class ToyModel:
    """A Gaussian with a full covariance."""

    family: ClassVar[str] = "toy"
    jitter: float = 0.1
    """Added to the diagonal."""


class Toy(GenerativeModel, Encodes, HasDensity):
    """x = m + L z, L lower triangular."""

    bound, measure = "exact", "density"

    def __init__(self, event_shape, jitter):
        super().__init__(event_shape, event_shape[0], triptych.codecs.Floats())
        self.mean, self.jitter = nn.Parameter(torch.zeros(event_shape)), jitter
        self.factor = nn.Parameter(torch.eye(event_shape[0]))

    def normal(self):
        factor = self.factor.tril(-1) + torch.diag(self.factor.diagonal().abs() + self.jitter)
        return torch.distributions.MultivariateNormal(self.mean, scale_tril=factor)

    def decode(self, z, context=None):
        return self.mean + z @ self.normal().scale_tril.T

    def encode(self, x, context=None):
        return torch.linalg.solve_triangular(self.normal().scale_tril, (x - self.mean).T, upper=False).T

    def log_prob(self, x, context=None, *, k=1, generator=None):
        return self.normal().log_prob(x)


class ToyPlayer(Player):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, step, context=None):
        nll = -self.model.log_prob(x).mean()
        return Loss(nll, {"nll": nll.detach()})


def test_a_users_family_is_one_row(tmp_path, monkeypatch):
    row = families.Family(
        "toy", "Train a Gaussian.", ToyModel, FlowObjective,
        build=lambda recipe, batch, context_dim: Toy(tuple(batch.shape[1:]), recipe.model.jitter),
        players=lambda recipe, model, processes: {"toy": ToyPlayer(model)},
        presets={"default": Recipe(ToyModel(), FlowObjective(), training=QUICK, steps=200)},
    )  # fmt: skip
    monkeypatch.setattr(families, "FAMILIES", {**families.FAMILIES, "toy": row})
    data = Split(np.random.default_rng(0).normal(3.0, 2.0, (200, 2)).astype(np.float32))
    recipe = dataclasses.replace(families.preset("toy"), training=dataclasses.replace(QUICK, rate=0.1, batch=100))
    run = trained(tmp_path, recipe, families.build_for(recipe, data), data)
    assert (run.averaged.codec.decode(run.averaged.mean[None]) - 3).abs().max() < 0.5  # standardised inside
    again = triptych.load(run.folder, model=Toy((2,), 0.1))
    assert pretrained.read_recipe(run.folder) == run.recipe == settled(recipe, run.device)
    measured = triptych.evaluate.evaluate(again, data)
    assert measured["round_trip_max"].value < 1e-4 and 3.5 < measured["nll"].value < 4.6
    assert Run.resume(run.folder, steps=205, given={"model": Toy((2,), 0.1)}).progress.step == 200
    assert triptych.edit.interpolate(again, data[:1], data[1:2], 3).shape == (1, 3, 2)


def test_the_models_parts_are_a_tree(tmp_path):
    model = triptych.VAE((1, 6, 6), 3, encoder=MLP((1, 6, 6), (9,), 6, "relu"), prior=triptych.NICE((3,), hidden=(8,)))
    described = parts.describe(model)
    assert described["arguments"]["encoder"] == {
        "type": "MLP",
        "arguments": described["arguments"]["encoder"]["arguments"],
    }
    assert described["arguments"]["encoder"]["arguments"]["hidden"] == [9]
    model.prior.initialize(torch.randn(16, 3))
    pretrained.save_model(model, tmp_path)
    again = triptych.load(tmp_path)
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    assert torch.equal(model.eval().sample(4, generator=noise[0]), again.sample(4, generator=noise[1]))
    assert triptych.VAE.from_pretrained(tmp_path).latent_dim == 3


@pytest.mark.parametrize("name", ["NoSuch", "os.system", "Recipe", "GenerativeModel"])
def test_a_description_builds_nothing_but_parts(tmp_path, name):
    pretrained.save_model(triptych.VAE((4,), 2), tmp_path)
    path = tmp_path / "recipe.json"
    path.write_text(path.read_text().replace('"VAE"', f'"{name}"'))
    with pytest.raises(TriptychError, match="type"):
        triptych.load(tmp_path)


def test_every_public_part_can_be_described():
    """Names are unique, and what is a part is found by its name."""
    known = pretrained.known_types()
    assert {"VAE", "GAN", "Glow", "MLP", "ConvEncoder", "Dequantised", "FlowStep", "Bernoulli"} <= set(known)
    assert all(kind.__name__ == name for name, kind in known.items())


def test_what_a_model_cannot_do_names_the_alternative():
    gan = triptych.GAN((4,), 2)
    with pytest.raises(NotSupported, match=r"triptych\.edit\.invert"):
        gan.encode(torch.zeros(1, 4))
    with pytest.raises(NotSupported, match="sample-quality"):
        gan.log_prob(torch.zeros(1, 4))
    assert not hasattr(gan, "encode")
    with pytest.raises(NotSupported, match="use a VAE"):
        triptych.NICE((4,), hidden=(4,)).posterior(torch.zeros(1, 4))
    with pytest.raises(AttributeError, match="no_such_name"):
        gan.no_such_name  # noqa: B018 - looked up for its error


def test_splits_of_conditional_data_make_conditional_models():
    label = np.arange(60) % 3
    data = Split(pixels(60, (1, 8, 8)).data, {"label": label}, {"label": "class"})
    assert isinstance(Splits(train=data), Splits)
    for name in ("vae", "dcgan", "gan", "nice", "realnvp", "glow", "spectral"):
        recipe = dataclasses.replace(families.preset(name), given="label")
        small = {"width": 8} if hasattr(recipe.model, "width") else {}
        small |= {"depth": 1} if hasattr(recipe.model, "depth") else {}
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **small))
        model = families.build_for(recipe, data).eval()
        assert model.context_dim == 3 and model.conditions.names == ("label",)
        asked = model.conditions.parse("label=2")
        assert model.sample(2, context=asked).shape == (2, 1, 8, 8)
        with pytest.raises(TriptychError, match=r"context should be"):
            model.sample(2, context=torch.zeros(2, 4))
    with pytest.raises(TriptychError, match="did you mean label"):
        families.build_for(dataclasses.replace(recipe, given="lable"), data)
    with pytest.raises(TriptychError, match="without a condition"):
        triptych.VAE((4,), 2).encode(torch.zeros(1, 4), torch.zeros(1, 1))
    assert BinCentres().is_picture and recipes.to_json(recipe)["given"] == "label"


def test_what_a_checkpoint_cannot_hold_is_said_before_training(tmp_path):
    shared = Coupling(SelfAttention(2, 4), Affine(), 2)
    flow = Flow((4, 6), Chain([shared, Permutation([1, 2, 3, 0]), shared, triptych.bijections.Flatten((4, 6))]))
    with pytest.raises(TriptychError, match="two places"):
        parts.describe(flow)
    for wrong, said in (
        (lambda: triptych.VAE((6,), 2, likelihood="gaussian"), "likelihood should be a Likelihood"),
        (lambda: triptych.VAE((6,), 2, encoder=lambda x: x), "encoder should be a torch.nn.Module"),
        (lambda: Flow((4,), nn.Linear(4, 4)), "bijection should be a Bijection"),
        (lambda: triptych.VAE((6,), 2, encoder=nn.Linear(5, 4)).encode(torch.zeros(1, 6)), "cannot be called with"),
        (lambda: triptych.GAN((6,), 2, generator=nn.Bilinear(2, 2, 6)), "should take forward"),
        (lambda: families.own_model(lambda shape: 1 / 0, (4,)), "does not make a model: ZeroDivisionError"),
        (lambda: triptych.load(tmp_path / "none", chache_dir="x"), "did you mean cache_dir"),
    ):
        with pytest.raises(TriptychError, match=said):
            wrong()


def test_defaults_are_the_command_lines():
    from inspect import signature

    assert signature(triptych.VAE).parameters["latent_dim"].default == recipes.VAEModel().latent_dim
    assert signature(triptych.GAN).parameters["latent_dim"].default == recipes.DCGANModel().latent_dim
    for name, made in (("vae", triptych.VAE((3, 8, 8))), ("dcgan", triptych.GAN((3, 8, 8)))):
        recipe = families.preset(name)
        if name == "vae":  # whose prior takes a stage of training, which a model that is built in Python may not have
            recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, prior="normal"))
        built = families.build(recipe, pixels()[:4])
        assert parts.describe(built) == parts.describe(made)
