"""z moved to where a score is highest, and the perturbation that a profile calls for, against closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import MODELS
from test_edit import Rotation

from triptych import edit, storage
from triptych.capabilities import Encodes
from triptych.core import StandardNormal
from triptych.errors import TriptychError

ENCODING = [name for name in MODELS if isinstance(MODELS[name].model(), Encodes)]
TOWARDS = torch.tensor([3.0, -2.0, 1.0, 0.0, 0.5, -1.0])


def linear(x):
    return x @ TOWARDS.to(x)


def black_box(x):
    return torch.from_numpy(x.detach().double().numpy() @ TOWARDS.double().numpy())


@pytest.mark.parametrize("name", ENCODING)
def test_scores_never_fall_and_z_stays_in_the_ball(name):
    model = MODELS[name].model().train()
    x = model.codec.centre(MODELS[name].stored(3))
    before = copy.deepcopy(model.state_dict())
    weight = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0))
    found = edit.optimise(model, x, lambda x: x.flatten(1) @ weight, within=0.5, steps=6)
    assert found.x.shape == x.shape and found.z.shape == (3, model.latent_dim) and found.path.shape[0] == 7
    assert (found.path_scores.diff(dim=0) >= 0).all() and (found.scores > found.path_scores[0]).all()
    assert (found.distance <= 0.5 + 1e-5).all() and torch.equal(found.path[-1], found.z)
    assert not found.x.requires_grad and model.training and all(p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("objective", "method", "atol"), [(linear, "gradient", 1e-4), (black_box, "cma", 0.05)])
def test_the_best_of_a_linear_score_lies_where_its_gradient_leaves_the_ball(objective, method, atol):
    model = Rotation()
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    found = edit.optimise(model, x, objective, within=1.5, steps=50)
    best = x + 1.5 * TOWARDS / TOWARDS.norm()
    torch.testing.assert_close(found.x, best, rtol=0, atol=1.5 * atol)
    again = edit.optimise(model, x, objective, within=1.5, steps=50, method=method)
    assert torch.equal(again.z, found.z)


def test_every_example_may_have_a_target_of_its_own():
    """As each viewer of a picture has: f is only ever asked for all of them."""
    targets = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    x = torch.zeros(5, 6)
    found = edit.optimise(Rotation(), x, lambda x: -(x - targets).square().sum(1), within=9.0, steps=60)
    assert found.scores.min() > -1e-2


def test_cma_leaves_the_random_numbers_of_others_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    edit.optimise(Rotation(), torch.zeros(1, 6), black_box, steps=3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_the_prior_draws_z_to_where_both_agree():
    """argmax g·z − λ |z|² / 2L is z = g L / λ."""
    model = Rotation()
    assert isinstance(model.prior, StandardNormal)
    found = edit.optimise(model, torch.randn(3, 6), lambda x: 0.1 * linear(x), within=20, prior=4.0, steps=300)
    expected = (0.1 * TOWARDS * 6 / 4.0) @ model.rotation.detach()
    torch.testing.assert_close(found.z, expected.expand(3, -1), rtol=0, atol=0.02)


@pytest.mark.parametrize("objective", [linear, black_box])
def test_z_moves_along_what_is_given_alone(objective):
    model, along = Rotation(), torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    along = torch.cat([along, along[:1] + along[1:]])  # a third that the two span
    x = torch.randn(3, 6)
    found = edit.optimise(model, x, objective, within=1.0, steps=40, along=along)
    moved = found.z - model.encode(x).detach()
    back = torch.linalg.lstsq(along[:2].T, moved.T).solution
    torch.testing.assert_close(along[:2].T @ back, moved.T, rtol=0, atol=1e-4)
    basis = torch.linalg.qr(along[:2].T).Q
    towards = basis @ (basis.T @ (TOWARDS @ model.rotation.detach()))
    torch.testing.assert_close(moved, (towards / towards.norm()).expand(3, -1), rtol=0, atol=0.02)


def test_one_dimension_is_searched_too():
    found = edit.optimise(Rotation(), torch.zeros(1, 6), black_box, within=1.0, along=torch.eye(6)[:1], steps=20)
    assert found.distance.item() == pytest.approx(1, abs=0.02)


def test_further_than_a_direction_at_equal_distance():
    """By the very score that is asked for; what a direction was learned from says how it moves most typically instead."""
    model = MODELS["vae-conv-logistic"].model().eval()
    x = model.codec.centre(MODELS["vae-conv-logistic"].stored(4))
    z = model.encode(x)
    step = torch.randn(1, model.latent_dim, generator=torch.Generator().manual_seed(0))
    plain = model.decode(z + step / step.norm()).mean((1, 2, 3))
    found = edit.optimise(model, x, lambda x: x.mean((1, 2, 3)), within=1.0, steps=60)
    assert (found.scores > plain).all()


BAD = {
    "a radius of 0": ({"within": 0.0}, "within should be"),
    "a negative prior": ({"prior": -1.0}, "prior should be"),
    "no steps": ({"steps": 0}, "steps should be"),
    "an unknown method": ({"method": "magic"}, "method should be one of auto, gradient, cma"),
    "one score for all": ({"objective": lambda x: x.sum()}, "a tensor of 2 scores"),
    "a number": ({"objective": lambda x: 1.0}, "a tensor of 2 scores"),
    "NaN": ({"objective": lambda x: x.sum(1) * math.nan}, "NaN or infinite"),
    "a gradient that is not there": ({"objective": black_box, "method": "gradient"}, "method='cma'"),
    "directions of another length": ({"along": torch.ones(1, 5)}, "along should be directions"),
    "directions of zeros": ({"along": torch.zeros(2, 6)}, "zeros alone"),
    "data of another shape": ({"x": torch.zeros(2, 7)}, "takes"),
    "codes of another shape": ({"z": torch.zeros(2, 7)}, "z should be"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_optimised_is_said(name):
    changes, said = BAD[name]
    given = {"x": torch.zeros(2, 6), "objective": linear} | changes
    with pytest.raises(TriptychError, match=said):
        edit.optimise(Rotation(), **given)


def test_a_depth_has_no_prior():
    model = edit.AtDepth(MODELS["glow-colour"].model(), 2)
    x = model.codec.centre(MODELS["glow-colour"].stored(1))
    with pytest.raises(TriptychError, match="by within alone"):
        edit.optimise(model, x, lambda x: x.sum((1, 2, 3)), prior=1.0)


TASTE = torch.tensor([[0.5, 0.0, -0.2, 0.0, 0.1, 0.0], [0.0, 0.4, 0.0, 0.0, 0.3, -0.3]])  # (P, D)


def by_taste(x, profiles):
    """Highest where x is what the profile calls for."""
    return -(x - profiles @ TASTE).square().sum(1)


def by_taste_unseen(x, profiles):
    return by_taste(x.detach(), profiles)


@pytest.mark.parametrize(("scores", "atol"), [(by_taste, 0.02), (by_taste_unseen, 0.06)])
def test_a_linear_taste_is_learned_and_holds_for_new_people(scores, atol):
    model, random = Rotation(), torch.Generator().manual_seed(0)
    people, others = (3 * torch.randn(n, 2, generator=random) + 1 for n in (80, 30))
    perturb = edit.fit_perturbation(model, torch.zeros(1, 6), people, scores, within=20.0, decay=0.0, steps=800)
    torch.testing.assert_close(perturb.pictures(model, others), others @ TASTE, rtol=0, atol=atol * 20)
    assert by_taste(perturb.pictures(model, others), others).mean() > 0.05 * by_taste(torch.zeros(30, 6), others).mean()


def test_a_perturbation_stays_in_its_ball_and_in_its_span():
    model, people = Rotation(), torch.randn(50, 2)
    along = torch.eye(6)[:2]
    perturb = edit.fit_perturbation(model, torch.zeros(1, 6), people, by_taste, within=0.1, along=along, steps=50)
    moved = perturb(100 * people)
    assert (moved.norm(dim=1) <= 0.1 + 1e-6).all() and (moved[:, 2:] == 0).all()


def test_a_perturbation_is_kept(tmp_path):
    model, people = Rotation(), torch.randn(20, 2)
    perturb = edit.fit_perturbation(model, torch.zeros(1, 6), people, by_taste, steps=5)
    perturb.save(tmp_path / "taste.safetensors")
    again = edit.Perturbation.load(tmp_path / "taste.safetensors")
    assert torch.equal(again.pictures(model, people), perturb.pictures(model, people))


@pytest.mark.parametrize("change", ["missing", "shape", "nan", "integers"])
def test_a_file_of_something_else_is_refused(tmp_path, change):
    path = tmp_path / "taste.safetensors"
    edit.Perturbation(torch.ones(2, 3), torch.ones(3), torch.ones(2), torch.ones(2), torch.ones(1, 3), 1.0).save(path)
    tensors = storage.read_tensors(path)
    if change == "missing":
        tensors.pop("bias")
    else:
        tensors["bias"] = {"shape": torch.ones(2), "nan": torch.full((3,), math.nan), "integers": torch.ones(3).int()}[
            change
        ]
    storage.write_tensors(path, tensors)
    with pytest.raises(TriptychError, match="fit it again"):
        edit.Perturbation.load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profiles": torch.zeros(4)}, "profiles should be"),
        ({"profiles": torch.full((4, 2), math.nan)}, "profiles should be"),
        ({"x": torch.zeros(2, 6)}, "one seed picture"),
        ({"scores": lambda x, p: x.sum()}, "64 finite numbers"),
        ({"scores": lambda x, p: x.sum(1) / 0}, "64 finite numbers"),
        ({"decay": -1.0}, "decay should be"),
    ],
)
def test_what_cannot_be_fitted_is_said(changes, said):
    given = {"x": torch.zeros(1, 6), "profiles": torch.randn(8, 2), "scores": by_taste} | changes
    with pytest.raises(TriptychError, match=said):
        edit.fit_perturbation(Rotation(), **given)
