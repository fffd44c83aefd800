"""Noise from generators of its own: the same whatever else a process draws meanwhile, and torch's own state untouched."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from test_train import pixels, start, tiny, weights
from torch import nn

from triptych import randomness
from triptych.families import preset
from triptych.randomness import _DRAWS, seeded
from triptych.training import loop as train

X = torch.linspace(0.1, 0.9, 24).view(2, 3, 4)
DRAWS = {
    "rand": lambda: torch.rand(3, 4),
    "randn": lambda: torch.randn(3, 4, dtype=torch.float64),
    "randint": lambda: torch.randint(0, 9, (20,)),
    "randperm": lambda: torch.randperm(9),
    "normal": lambda: torch.normal(X, X),
    "bernoulli": lambda: torch.bernoulli(X),
    "multinomial": lambda: torch.multinomial(X[0, 0], 3),
    "poisson": lambda: torch.poisson(9 * X),
    "rand_like": lambda: torch.rand_like(X, dtype=torch.float64),
    "randn_like": lambda: torch.randn_like(X.mT),
    "randint_like": lambda: torch.randint_like(X, 3, 9),
    "randint_like by name": lambda: torch.randint_like(input=X, low=3, high=9),
    "rand_like by name": lambda: torch.rand_like(input=X),
    "uniform_": lambda: torch.empty(9).uniform_(1, 2),
    "normal_": lambda: torch.empty(9).normal_(1, 2),
    "bernoulli_": lambda: torch.empty(9).bernoulli_(0.3),
    "random_": lambda: torch.empty(9).random_(100),
    "exponential_": lambda: torch.empty(9).exponential_(),
    "Gamma": lambda: torch.distributions.Gamma(X, X).sample(),
    "Dirichlet": lambda: torch.distributions.Dirichlet(X).sample(),
    "Beta": lambda: torch.distributions.Beta(X, X).rsample(),
    "Linear": lambda: nn.Linear(3, 4).weight,
    "Conv2d": lambda: nn.Conv2d(3, 4, 3).bias,
    "LSTM": lambda: nn.LSTM(3, 4).weight_hh_l0,
    "xavier": lambda: nn.init.xavier_normal_(torch.empty(3, 4)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(3, 4)),
    "trunc_normal": lambda: nn.init.trunc_normal_(torch.empty(3, 4)),
    "dropout": lambda: F.dropout(X, 0.3),
    "Dropout": lambda: nn.Dropout(0.9)(X),
    "Dropout inplace": lambda: nn.Dropout(0.5, inplace=True)(X.clone()),
    "Dropout in eval": lambda: nn.Dropout(0.5).eval()(X),
    "Dropout2d": lambda: nn.Dropout2d(0.5)(X[None]),
    "AlphaDropout": lambda: nn.AlphaDropout(0.5)(X),
    "RReLU": lambda: nn.RReLU()(-X),
    "gumbel_softmax": lambda: F.gumbel_softmax(X),
    "attention": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.5),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2, dropout=0.5)(X, X, X)[0],
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(4, 2, 8)(X),
    "dropout_": lambda: torch.dropout_(X.clone(), 0.5, True),
    "feature_dropout": lambda: torch.feature_dropout(X, 0.5, True),
    "rrelu_": lambda: torch.rrelu_(-X, training=True),
    "LSTM with dropout": lambda: nn.LSTM(4, 3, 2, dropout=0.5)(X)[0],
    "GRU with dropout": lambda: nn.GRU(4, 3, 2, dropout=0.5)(X)[0],
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(2, output_size=1)(X),
    "native_dropout": lambda: torch.native_dropout(X, 0.3, True)[0],
    "svd_lowrank": lambda: torch.svd_lowrank(X[0], 2)[2].abs(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_a_seeded_torch_and_leave_its_state_alone(name, monkeypatch):
    """Not even for a moment, in which another thread might draw."""
    monkeypatch.setattr(randomness, "_in_its_state", lambda func, *_: pytest.fail(f"{func} borrows torch's state"))
    draw = DRAWS[name]
    torch.manual_seed(7)
    expected = [draw(), draw()]
    before = torch.get_rng_state()
    with seeded(7):
        first = draw()
        with seeded(7):
            assert torch.equal(draw(), expected[0])
        second = draw()
    assert torch.equal(first, expected[0]) and torch.equal(second, expected[1])
    assert torch.equal(before, torch.get_rng_state())


def test_every_function_of_torch_that_draws_is_known():
    """Those that torch itself marks so, without its inner ones."""
    ops = {
        schema.name.removeprefix("aten::") for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")
    }
    places = (torch._C._VariableFunctions, torch.Tensor)
    public = {name: [f for place in places if (f := getattr(place, name, None))] for name in ops if name[0] != "_"}
    drawing = {
        f
        for name in public
        for op in [getattr(torch.ops.aten, name, None)]
        if op is not None and any(torch.Tag.nondeterministic_seeded in getattr(op, o).tags for o in op.overloads())
        for f in public[name]
    }
    elsewhere = {torch._C._VariableFunctions.miopen_rnn}  # of one maker's machines
    assert len(drawing) > 30 and drawing <= _DRAWS.keys() | elsewhere


def test_dropout_inside_of_torchs_layers_is_nothing_to_other_threads():
    """Many draws of both at once: each thread has the numbers that it has alone."""
    layer, ready = nn.GRU(4, 3, 2, dropout=0.5), threading.Barrier(2)

    def inside():
        ready.wait()
        with seeded(1):
            return [layer(X)[0] for _ in range(200)]

    def outside():
        ready.wait()
        generator = torch.random.default_generator.manual_seed(2)
        return [torch.rand(3, generator=generator) for _ in range(3000)]

    with ThreadPoolExecutor(2) as pool:
        together = [pool.submit(inside), pool.submit(outside)]
        found = [f.result() for f in together]
    ready = threading.Barrier(1)
    for drawn, alone in zip(found, (inside(), outside()), strict=True):
        assert all(map(torch.equal, drawn, alone))


def test_gradients_of_what_draws_are_those_of_what_was_drawn():
    x = X.clone().requires_grad_()
    with seeded(3):
        drawn = F.dropout1d(x, 0.5)
    (slope,) = torch.autograd.grad(drawn.sum(), x)
    assert torch.equal(drawn, x * slope) and {0.0, 2.0} == {*slope.flatten().tolist()}


def test_a_generator_that_is_named_is_used():
    generator = torch.Generator().manual_seed(3)
    with seeded(7):
        drawn = torch.rand(4, generator=generator)
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))


def paper_gan():
    """Dropout, hidden draws of each player, and augmented pictures."""
    recipe = preset("gan")
    model = dataclasses.replace(recipe.model, latent_dim=4)
    loop = dataclasses.replace(tiny().training, batch=8)
    return dataclasses.replace(recipe, model=model, training=loop, steps=6, augment="diffaug", data="digits")


def test_trainings_in_threads_equal_each_alone_to_the_bit(tmp_path):
    """Beside a thread that sets torch's random state again and again."""
    recipes = (tiny(steps=12), tiny(steps=12), paper_gan())
    data = pixels(64, 1, 8, 8)

    def trained(name, recipe):
        train.fit(start(tmp_path / name, recipe, data), data, notice=lambda line: None)

    for i, recipe in enumerate(recipes):
        trained(f"alone{i}", recipe)
    over = threading.Event()

    def draws():
        while not over.wait(0.0002):
            torch.manual_seed(0)
            torch.rand(100)

    noise = threading.Thread(target=draws)
    together = [threading.Thread(target=trained, args=(f"together{i}", recipe)) for i, recipe in enumerate(recipes)]
    for thread in (noise, *together):
        thread.start()
    for thread in together:
        thread.join()
    over.set()
    noise.join()
    for i in range(len(recipes)):
        assert weights(tmp_path / f"alone{i}") == weights(tmp_path / f"together{i}")
