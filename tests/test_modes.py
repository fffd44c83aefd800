"""Whatever measures, samples or edits a model leaves it as it was: no batch norm learns, no unit is dropped."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from cases import MODELS
from torch import nn

import triptych
from triptych import doctor, edit, evaluate, flow
from triptych.capabilities import HasPosterior
from triptych.core import Estimate
from triptych.data import Split, Splits
from triptych.doctor.columns import compare_columns
from triptych.edit.inversion import Inverting
from triptych.edit.showing import shown
from triptych.errors import TriptychError
from triptych.evaluate import latent, likelihood, posterior_sampling
from triptych.flow.watch import flow_health
from triptych.modes import evaluating
from triptych.randomness import seeded

ATTRIBUTES = {"a": np.arange(60, dtype=np.float32) % 2, "b": np.linspace(-1, 1, 60, dtype=np.float32)}


class Given:
    """Sixty stored examples, as tensors and splits, and directions of a model's codes."""

    def __init__(self, model, stored):
        self.stored, self.split = stored, Split(stored.numpy(), ATTRIBUTES, {"a": "binary", "b": "continuous"})
        self.splits = Splits(train=self.split, test=self.split)
        self.x, self.noise = model.codec.centre(stored[:4]), torch.Generator().manual_seed(0)
        with evaluating(model):
            try:
                self.directions = edit.unsupervised_directions(model, stored, 1)
            except TriptychError:  # without an encoder
                self.directions = edit.Directions()
        self.name = next(iter(self.directions), "")


# by name, so that a public function that takes a model and has no line here is found
FUNCTIONS: dict[str, Callable] = {
    "sample": lambda m, g: m.sample(3, generator=g.noise),
    "sample_prior": lambda m, g: m.sample_prior(3, generator=g.noise),
    "codes": lambda m, g: latent.codes(m, g.stored),
    "bits_per_dim": lambda m, g: evaluate.bits_per_dim(m, g.stored[:4], generator=g.noise),
    "importance_nll": lambda m, g: evaluate.importance_nll(m, g.stored[:4], k=2, generator=g.noise),
    "negative_log_prob": lambda m, g: likelihood.negative_log_prob(m, g.stored[:4], generator=g.noise),
    "elbo": lambda m, g: evaluate.elbo(m, g.stored, generator=g.noise),
    "evaluate": lambda m, g: evaluate.evaluate(m, g.split, k=2, images=4, hmc=0),
    "marginal_log_likelihood": lambda m, g: evaluate.marginal_log_likelihood(m, g.stored[:2], chains=8, generator=g.noise),
    "reconstruction_error": lambda m, g: evaluate.reconstruction_error(m, g.stored[:4]),
    "round_trip": lambda m, g: evaluate.round_trip(m, g.stored[:4]),
    "sample_quality": lambda m, g: evaluate.sample_quality(m, g.split, g.split, evaluate.Pixels(), n=50),
    "statistics": lambda m, g: evaluate.statistics(m, g.stored[:4], k=2),
    "learn_reference": lambda m, g: evaluate.learn_reference(m, g.split, g.split, k=2).held_out,
    "examine": lambda m, g: doctor.examine(m, g.splits, 20),
    "compare_columns": lambda m, g: compare_columns(m, g.split, 20),
    "flow_health": lambda m, g: flow_health(m, g.x),
    "apply": lambda m, g: edit.apply(m, g.x, {g.name: 1.0}, g.directions),
    "sweep": lambda m, g: edit.sweep(m, g.x, g.name, [0.0, 1.0], g.directions),
    "change_context": lambda m, g: edit.change_context(m, g.x, None, torch.ones(1, m.context_dim)),
    "optimise": lambda m, g: edit.optimise(m, g.x, lambda x: x.flatten(1).mean(1), steps=2).x,
    "fit_perturbation": lambda m, g: (
        edit.fit_perturbation(m, g.x[:1], torch.eye(3), lambda x, _: x.flatten(1).mean(1), steps=2).bias
    ),
    "interpolate": lambda m, g: edit.interpolate(m, g.x[:1], g.x[1:2], 3),
    "manifold": lambda m, g: edit.manifold(m, g.x, 4),
    "shown": lambda m, g: shown(m, g.stored[:2], lambda x, z: x[:, None]),
    "inpaint": lambda m, g: edit.inpaint(m, g.x, edit.mask("top", m.event_shape), steps=2, generator=g.noise),
    "invert": lambda m, g: edit.invert(m, g.x, steps=2, restarts=1, generator=g.noise),
    "learn_encoder": lambda m, g: dict(edit.learn_encoder(m, data=g.stored, steps=2, batch=4).state_dict()),
    "learn_directions": lambda m, g: edit.learn_directions(m, g.stored, ATTRIBUTES)["a"].normal,
    "learn_from_piles": lambda m, g: edit.learn_from_piles(m, g.stored[:20], g.stored[20:40], "liked").normal,
    "unsupervised_directions": lambda m, g: [d.normal for d in edit.unsupervised_directions(m, g.stored, 1).values()],
    "judge": lambda m, g: edit.judge(m, g.directions, g.stored, {})[g.name].judged["share"],
    "learn_at_depths": lambda m, g: (
        edit.learn_at_depths(m, lambda part: edit.learn_directions(part, g.stored, ATTRIBUTES), [1])[1]["a"].normal
    ),
}
UNUSED = {"at_depth", "Inverting", "AtDepth"}  # they wrap a model


def public_functions():
    """Of the packages that measure and edit, by name, those with a model among their arguments."""
    for room in (evaluate, edit, doctor, flow, triptych):
        for name in room.__all__:
            found = getattr(room, name)
            if inspect.isfunction(found) and "Generat" in str(inspect.signature(found).parameters.get("model", "")):
                yield name


def test_every_public_function_of_a_model_is_tried():
    tried = (
        set(FUNCTIONS) | UNUSED | {"read", "show", "save", "resume", "train"}
    )  # the first three ask the codec alone, the others train
    assert set(public_functions()) <= tried


def moody(model):
    """The model, each layer of which behaves otherwise in training, and learns from what it sees there."""

    def changed(layer, _args, out):
        if not layer.training or not isinstance(out, torch.Tensor):
            return out
        layer.seen += 1
        return out * 1.3

    for layer in model.modules():
        if not [*layer.children()] and [*layer.parameters(recurse=False)]:
            layer.register_buffer("seen", torch.zeros(()))
            layer.register_forward_hook(changed)
    return model


def plain(found):
    """Numbers and tensors of a result, flat, for comparison."""
    if isinstance(found, torch.Tensor):
        return [found.detach()]
    if isinstance(found, Estimate):
        return [torch.tensor(found)]
    if isinstance(found, evaluate.Quality):
        found = found.measures
    if isinstance(found, dict):
        found = [found[key] for key in sorted(found)]
    if isinstance(found, list | tuple):
        return [value for part in found for value in plain(part)]
    return [] if isinstance(found, str) else [torch.tensor(float(found))]


def _kinds():
    """A case of each type of model: those with a batch norm, a context or a learned prior before others."""
    found = {}
    for name in sorted(MODELS, key=lambda name: not any(w in name for w in ("batch-norm", "conditional", "prior"))):
        found.setdefault(type(MODELS[name].model()).__name__, name)
    return [*found.values(), "realnvp-vector"]


@pytest.fixture(scope="module", params=[*_kinds(), "inverting"])
def tried(request):
    """A model in training mode, and what there is for it to be measured on."""
    case = MODELS["gan-conv-batch-norm-5-bits" if request.param == "inverting" else request.param]
    with seeded(0):
        model = moody(case.model())
        if request.param == "inverting":
            model = Inverting(model, edit.learn_encoder(model, steps=1, batch=4), steps=2)
    model.train()
    return model, Given(model, case.stored(60))


def outcome(function, model, given):
    """What a function gives, or the one line by which it refuses this model."""
    given.noise.manual_seed(0)
    try:
        with seeded(1):
            return plain(FUNCTIONS[function](model, given))
    except TriptychError as error:
        return str(error)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_model_is_used_in_eval_mode_and_left_as_it_was(tried, function, monkeypatch):
    model, given = tried
    monkeypatch.setattr(posterior_sampling, "BURN_IN", 2)
    monkeypatch.setattr(posterior_sampling, "DRAWS", 3)
    if function == "marginal_log_likelihood" and not isinstance(model, HasPosterior):
        return
    if function == "sample_quality" and len(model.event_shape) == 3:
        return  # patches take time, and vectors show the mode as well
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    assert all(modes.values()) or isinstance(model, Inverting)
    found = outcome(function, model, given)
    assert {name: module.training for name, module in model.named_modules()} == modes
    after = model.state_dict()
    assert [name for name, value in before.items() if not torch.equal(value.nan_to_num(), after[name].nan_to_num())] == []
    with evaluating(model):
        expected = outcome(function, model, given)
    if isinstance(expected, str):
        assert found == expected
        return
    assert len(found) == len(expected) > 0 or function in ("compare_columns", "evaluate")
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=0, atol=0)


def test_a_batch_norm_does_not_learn_from_data_that_are_scored():
    """RealNVP's running averages are its inverse: in training mode a score used to move them."""
    case = MODELS["realnvp-colour"]
    model = case.model().train()
    norms = [m for m in model.modules() if type(m).__name__ == "BatchNorm"]
    means = [norm.mean.clone() for norm in norms]
    triptych.bits_per_dim(model, case.stored(8))
    assert norms and all(torch.equal(norm.mean, mean) for norm, mean in zip(norms, means, strict=True))
    assert all(isinstance(m, nn.Module) and m.training for m in model.modules())
