"""Eight threads through one model give the bits of one: encode, decode, sample, score and edit, in whichever mode it is."""

import sys
import threading

import pytest
import torch
from cases import MODELS, K

from triptych import edit
from triptych.capabilities import Encodes, HasDensity
from triptych.edit.inversion import Inverting
from triptych.modes import evaluating, frozen

THREADS = 8
# one of each kind, and those that keep something or have a mode
CASES = [
    *("vae-conv-logistic", "vae-mlp-gaussian", "vae-conv-conditional", "sharpened-vector-learned-prior", "gan-maxout"),
    *("gan-conv-batch-norm-5-bits", "gan-encoded-conv", "gan-progressive", "glow-colour", "glow-grey-reversible"),
    *("glow-variational", "glow-whitened-vector", "nice-pixels", "realnvp-colour", "spectral-colour", "flow-of-parts"),
]


@pytest.fixture
def hasty():
    """Threads take turns every few microseconds, so that one is stopped in the middle of what should not be divided."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(work):
    """What `work(i)` gives in each of the threads, which begin together."""
    found, start = [None] * THREADS, threading.Barrier(THREADS)

    def run(i):
        start.wait()
        found[i] = work(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def everything(model, stored, directions):
    """Every tensor that a model gives of some pictures, as a function of their number."""

    def work(i):
        x, noise = model.codec.centre(stored[i : i + 2]), torch.Generator().manual_seed(i)
        context = None if not model.context_dim else torch.full((2, K), i / THREADS)
        found = [model.sample(2, context=context, generator=noise)]
        if isinstance(model, Encodes):
            with torch.no_grad():
                z = model.encode(x, context)
                found += [z, model.decode(z, context)]
            found += [edit.apply(model, x, {name: 0.5 + i}, directions, context=context) for name in directions]
        if isinstance(model, HasDensity):
            with torch.no_grad():
                found.append(model.log_prob(x, context, generator=noise))
        return found

    return work


@pytest.mark.parametrize("name", CASES)
def test_threads_give_the_bits_of_one(name, hasty):
    case = MODELS[name]
    model, stored = case.model().eval(), case.stored(24)
    directions = edit.Directions()
    if isinstance(model, Encodes) and not model.context_dim:
        directions = edit.unsupervised_directions(model, stored, 1)
    work = everything(model, stored, directions)
    alone = [work(i) for i in range(THREADS)]
    if not isinstance(model, Encodes | HasDensity):  # sampling alone is eval mode whatever the model is in
        model.train()
    together = at_once(work)
    for one, other in zip(alone, together, strict=True):
        assert other is not None and len(one) == len(other)
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["gan-conv", "gan-conv-batch-norm-5-bits"])
def test_inversions_beside_one_another_are_those_alone(name, hasty):
    model = MODELS[name].model()
    stored = MODELS[name].stored(THREADS)
    inverting = Inverting(model, None, steps=3, restarts=1)

    def work(i):
        return inverting.encode(model.codec.centre(stored[i : i + 1]))

    assert all(a.equal(b) for a, b in zip([work(i) for i in range(THREADS)], at_once(work), strict=True))
    assert all(p.requires_grad for p in model.parameters()) and model.training


def test_a_mode_returns_when_the_last_thread_leaves(hasty):
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2))

    def work(i):
        for _ in range(50):
            with evaluating(model), frozen(model):
                if model.training or model[0].training or model[1].weight.requires_grad:
                    return False
        return True

    assert all(at_once(work))
    assert model.training and model[0].training and model[1].weight.requires_grad


def test_a_mode_that_cannot_be_set_leaves_no_count_behind():
    """A module whose eval() raises: the next change of the same parts is put back as ever."""
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(2, 2))
    model.eval = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError), evaluating(model):
        pass
    del model.eval
    with evaluating(model):
        assert not model.training
    assert model.training and model[0].training
