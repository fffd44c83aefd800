"""Every public callable with something wrong in the place of each argument: a result, or a `TriptychError`, and no NaN.

`CALLS` holds a call that works for each; a test fails when something public has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import triptych
from triptych import bijections, codecs, compose, data, doctor, edit, evaluate, flow, gan, nets, report, vae
from triptych.core import GenerativeModel
from triptych.data import Split, Splits, faces
from triptych.errors import TriptychError

WRONG: dict[str, Any] = {
    "None": None,
    "text": "text",
    "nothing": [],
    "an object": object(),
    "nan": float("nan"),
    "infinity": float("inf"),
    "negative": -1,
    "zero": 0,
    "huge": 10**18,
    "a tensor of NaN": torch.full((12, 4), torch.nan),
    "an empty tensor": torch.empty(0, 4),
    "another shape": torch.zeros(2, 3, 2, 2, 2),
    "another dtype": torch.zeros(12, 4, dtype=torch.complex64),
}
GAUSSIAN = torch.Generator().manual_seed(0)
X = torch.randn(12, 4, generator=GAUSSIAN)
Y = torch.randn(12, 4, generator=GAUSSIAN)
MANY, MORE = torch.randn(60, 4, generator=GAUSSIAN), torch.randn(60, 4, generator=GAUSSIAN)
PICTURES = torch.randint(0, 256, (12, 1, 12, 12), dtype=torch.uint8, generator=GAUSSIAN)
LABEL = {"a": np.arange(12) % 2}
ALTERNATING = {"a": np.arange(60) % 2}
SPLIT = Split(X.numpy(), LABEL)
VAE = triptych.VAE((4,), 2).eval()
GIVEN = triptych.VAE((4,), 2, context_dim=2).eval()
LARGE = Split(torch.cat([MANY, MORE]).numpy())
NICE = triptych.NICE((4,), 2, (8,)).eval()
DIRECTIONS = edit.Directions(
    {
        name: edit.Direction(name, "continuous", torch.eye(2)[i], 0.0, 1.0, torch.eye(2)[i], (-1.0, 1.0))
        for i, name in enumerate("ab")
    }
)
NICE_DIRECTIONS = edit.Directions({"a": edit.Direction("a", "continuous", torch.eye(4)[0], 0.0, 1.0, torch.eye(4)[0])})
FOUND = {"log_prob": MANY[:, 0].double(), "reconstruction": MANY[:, 1].double().abs()}
PHOTOGRAPH = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8, generator=GAUSSIAN)
FACE, ALIGNMENT = edit.Face((6.0, 8.0), (14.0, 8.0)), edit.Alignment((0.3, 0.4), (0.7, 0.4))
PLACED = edit.place(FACE, ALIGNMENT, (8, 8))
# drawn so that the cascades see them
FACES = faces.draw(
    {"age": np.zeros(10), "hair_colour": np.full(10, 0.2), "glasses": np.zeros(10), "beard": np.zeros(10)}, 64
)
READER = edit.Reader(nn.Linear(4, 1), {"a": (0, 0.0, 1.0)})
DENSE = bijections.Dense(2, 4, (4,))
AFFINE = bijections.Affine()
STEP = bijections.FlowStep(bijections.Dense(2, 4, (4,)), bijections.Affine(), bijections.Invertible1x1(4))
LIKELIHOOD = vae.Gaussian((4,), mean="linear")
NOTE = report.Text("one")


def brightness(pictures: Tensor, texts: Any) -> Tensor:
    """A scorer of pictures against two texts."""
    light = pictures.mean((1, 2, 3))
    return torch.stack([light if text == "light" else -light for text in texts], 1)


CALLS: dict[str, dict[str, Any]] = {
    "triptych.bits_per_dim": {"model": triptych.NICE((1, 4, 4), 2, (8,)), "pixels": PICTURES[..., :4, :4], "k": 1},
    "triptych.show": {"x": torch.rand(2, 1, 4, 4), "model": triptych.NICE((1, 4, 4), 2, (8,)), "columns": 1},
    "data.Batches": {"split": SPLIT, "batch_size": 2, "seed": 0, "world": 1, "rank": 0},
    "data.Split": {"data": X.numpy(), "attributes": LABEL},
    "data.fixed_subset": {"n": 9, "count": 3, "seed": 0},
    "data.load": {"name": X, "seed": 0, "n": 5, "size": None},
    "edit.AtDepth": {"model": NICE, "depth": 1},
    "edit.Inverting": {"model": VAE, "encoder": None, "steps": 1, "restarts": 1},
    "edit.Alignment": {"left": (0.3, 0.4), "right": (0.7, 0.4)},
    "edit.Face": {"left": (6.0, 8.0), "right": (14.0, 8.0)},
    "edit.align": {"photograph": PHOTOGRAPH, "placed": PLACED, "channels": 3},
    "edit.centred": {"photograph": (20, 20), "size": (8, 8)},
    "edit.choose": {
        "faces": [FACE],
        "which": "largest",
        "alignment": ALIGNMENT,
        "photograph": (20, 20),
        "size": (8, 8),
    },
    "edit.find_faces": {"photograph": PHOTOGRAPH},
    "edit.known_alignment": {"data": "faces", "size": (8, 8)},
    "edit.measure_alignment": {"pictures": FACES},
    "edit.paste_back": {
        "photograph": PHOTOGRAPH,
        "placed": PLACED,
        "before": PHOTOGRAPH[None, :, :8, :8],
        "after": PHOTOGRAPH[None, :, 8:16, :8],
    },
    "edit.place": {"face": FACE, "alignment": ALIGNMENT, "size": (8, 8)},
    "edit.apply": {"model": VAE, "x": X, "values": {"a": 1.0}, "directions": DIRECTIONS, "hold": ()},
    "edit.at_depth": {"model": NICE, "depth": 1},
    "edit.axes": {"split": SPLIT},
    "edit.class_names": {"split": SPLIT},
    "edit.change_context": {"model": GIVEN, "x": X, "context": None, "given": X[:, :2]},
    "edit.Direction": {"name": "a", "kind": "binary", "normal": X[0], "offset": 0.0, "scale": 1.0, "step": X[0]},
    "edit.far_out": {"directions": DIRECTIONS, "values": {"a": 3.0}},
    "edit.inpaint": {"model": NICE, "x": X, "mask": torch.tensor([True, False, False, False]), "steps": 2},
    "edit.interpolate": {"model": VAE, "x0": X, "x1": Y, "n": 3},
    "edit.invert": {"model": VAE, "x": X, "steps": 1, "restarts": 1, "rate": 0.1},
    "edit.judge": {
        "model": VAE,
        "directions": DIRECTIONS,
        "stored": X,
        "attributes": LABEL,
        "reader": None,
        "beside": DIRECTIONS,
        "identity": ["a"],
    },
    "edit.learn_at_depths": {"model": NICE, "learn": lambda model: NICE_DIRECTIONS, "depths": [0]},
    "edit.learn_directions": {"model": VAE, "stored": MANY, "attributes": ALTERNATING, "names": ["a"]},
    "edit.learn_encoder": {"model": VAE, "steps": 1, "batch": 4, "width": 4, "rate": 1e-3},
    "edit.learn_from_piles": {
        "model": VAE,
        "shown": MANY[:20] + 1,
        "lacking": MANY[20:40],
        "name": "c",
        "beside": DIRECTIONS,
    },
    "edit.learn_reader": {"stored": MANY, "attributes": {"a": MANY[:, 0].numpy()}, "steps": 9, "batch": 60, "width": 4},
    "edit.manifold": {"model": VAE, "x": X[:4], "n": 2},
    "edit.mask": {"name": "left", "shape": (1, 4, 4)},
    "edit.move": {"z": X[:, :2], "values": {"a": 1.0}, "directions": DIRECTIONS, "add": None, "hold": ()},
    "edit.optimise": {"model": VAE, "x": X, "objective": lambda x: x.sum(1), "within": 1.0, "prior": 0.1, "steps": 2},
    "edit.fit_perturbation": {
        "model": VAE,
        "x": X[:1],
        "profiles": Y,
        "scores": lambda x, p: x.sum(1),
        "steps": 2,
        "batch": 4,
    },
    "edit.Perturbation": {
        "weight": X[:, :2],
        "bias": X[0, :2],
        "mean": X[:, 0],
        "std": X[:, 0].abs(),
        "z": X[:1, :2],
        "within": 1.0,
    },
    "edit.psnr": {"x": X, "y": Y},
    "edit.refuse_worthless": {"directions": DIRECTIONS, "names": ["a"]},
    "edit.straightness": {"directions": edit.judge(VAE, DIRECTIONS, X, {"a": X[:, 0].numpy()})},
    "edit.sweep": {"model": VAE, "x": X, "name": "a", "values": [0.0, 1.0], "directions": DIRECTIONS},
    "edit.unsupervised_directions": {"model": VAE, "stored": X, "count": 1, "method": "jacobian", "draws": 8, "seed": 0},
    "edit.Words": {"scorer": brightness, "texts": {"a": ("light", "dark")}, "stored": PICTURES},
    "evaluate.active_units": {"z": X},
    "evaluate.auroc": {"normal": X[:, 0], "anomalous": Y[:, 0]},
    "evaluate.complexity": {"pixels": PICTURES},
    "evaluate.copied": {"fake": X, "held_out": Y, "train": X + 1},
    "evaluate.distinct_outputs": {"fake": X, "real": Y},
    "evaluate.diversity": {"x": PICTURES / 255, "pairs": 4},
    "evaluate.elbo": {"model": VAE, "stored": X, "draws": 1},
    "evaluate.evaluate": {"model": VAE, "data": SPLIT, "k": 2, "draws": 1, "images": 4, "hmc": 0, "seed": 0},
    "evaluate.features": {"name": "pixels", "train": SPLIT, "steps": 1, "keep": 4},
    "evaluate.frechet_distance": {"a": MANY, "b": MORE},
    "evaluate.importance_nll": {"model": VAE, "stored": X, "k": 2, "batch": 4},
    "evaluate.joint": {"found": FOUND, "held_out": FOUND},
    "evaluate.kernel_distance": {"a": MANY, "b": MORE},
    "evaluate.ms_ssim": {"x": PICTURES / 255, "y": PICTURES.flip(0) / 255},
    "evaluate.learn_features": {"train": SPLIT, "steps": 1, "batch": 4, "width": 4, "keep": 2},
    "evaluate.learn_reference": {"model": VAE, "train": SPLIT, "held_out": SPLIT, "k": 1, "seed": 0},
    "evaluate.sample_quality": {"model": VAE, "test": LARGE, "train": LARGE, "features": evaluate.Pixels(), "n": 60},
    "evaluate.nearest_ratio": {"fake": X, "train": Y, "held_out": X + 1},
    "evaluate.nearest_training": {"fake": X, "train": Y, "count": 1},
    "evaluate.p_values": {"scores": X[:, 0], "reference": Y[:, 0]},
    "evaluate.parzen_log_likelihood": {"samples": X, "valid": Y, "test": X + 1, "sigmas": [0.1, 1.0]},
    "evaluate.precision_recall": {"real": MANY, "fake": MORE, "k": 3},
    "evaluate.reconstruction_error": {"model": VAE, "stored": X},
    "evaluate.round_trip": {"model": NICE, "stored": X},
    "evaluate.scores": {"found": FOUND, "held_out": FOUND, "dims": 4, "added_bits": 0.0},
    "evaluate.sliced_wasserstein": {"a": PICTURES / 255, "b": PICTURES.flip(0) / 255, "patches": 4, "projections": 4},
    "evaluate.statistics": {"model": VAE, "stored": X, "k": 2, "seed": 0, "batch": 4},
    "evaluate.two_sample_test": {"real": MANY, "fake": MORE, "folds": 5},
    "evaluate.typicality": {"nll": X[:, 0], "reference": MANY[:, 0], "resamples": 50, "seed": 0},
    "doctor.as_numbers": {"columns": []},
    "doctor.compare_columns": {"model": VAE, "data": SPLIT, "n": 12, "seed": 0},
    "doctor.diagnose": {"history": doctor.History([]), "samples": None, "recipe": None},
    "doctor.examine": {"model": VAE, "splits": Splits(train=SPLIT, test=SPLIT), "n": 12, "seed": 0},
    "doctor.History": {"lines": [], "damaged": 0},
    "flow.flow_health": {"model": NICE, "x": X, "samples": 2},
    "compose.MixturePrior": {"latent_dim": 2, "components": 3},
    "compose.VampPrior": {"latent_dim": 2, "event_shape": (4,), "components": 3},
    "compose.DensityPrior": {"density": triptych.NICE((2,), 2, (8,))},
    "compose.flow_prior": {"latent_dim": 2, "depth": 1, "width": 4},
    "compose.gaussian_prior": {"latent_dim": 2},
    "codecs.Attribute": {"name": "a", "kind": "binary", "mean": 0.0, "std": 1.0},
    "codecs.Binarised": {"bits": 8},
    "codecs.Dequantised": {"bits": 8},
    "codecs.BinCentres": {"bits": 8},
    "codecs.Conditions": {"attributes": [codecs.Attribute("a", "binary")]},
    "codecs.Floats": {"mean": [0.0], "scale": [1.0]},
    "bijections.ActNorm": {"channels": 4},
    "bijections.BatchNorm": {"channels": 4, "rho": 0.9, "epsilon": 1e-4},
    "bijections.VariationalDequantisation": {"shape": (1, 4, 4), "bits": 8, "couplings": 2, "width": 4},
    "bijections.Affine": {"floor": 0.05},
    "bijections.Chain": {"parts": [bijections.Invertible1x1(4)]},
    "bijections.ContextAffine": {"shape": (4,), "context_dim": 2},
    "bijections.ConvNet": {"shape": (2, 4, 4), "outputs": 2, "width": 4, "bound": 3.0},
    "bijections.Coupling": {"net": DENSE, "transform": AFFINE, "split": 2},
    "bijections.CheckerboardCoupling": {"net": DENSE, "transform": AFFINE},
    "bijections.Dense": {"inputs": 2, "outputs": 4, "hidden": (4,)},
    "bijections.FactorOut": {"shape": (4, 4, 4), "context_dim": 0},
    "bijections.Flatten": {"shape": (4, 4)},
    "bijections.FlowStep": {"net": DENSE, "transform": AFFINE, "mixing": bijections.Invertible1x1(4)},
    "bijections.FlowSteps": {"steps": [STEP], "memory": "full"},
    "bijections.Invertible1x1": {"channels": 4},
    "bijections.InvertibleLU": {"channels": 4},
    "bijections.Logit": {"alpha": 0.05},
    "bijections.Permutation": {"order": [1, 0]},
    "bijections.ResidualDense": {"inputs": 2, "outputs": 4, "width": 4, "depth": 1},
    "bijections.ResNet": {"shape": (2, 4, 4), "outputs": 2, "width": 4, "depth": 1},
    "bijections.Scale": {"channels": 4},
    "bijections.Spline": {"bins": 4, "bound": 5.0},
    "bijections.TanhAffine": {"channels": 4},
    "bijections.Unflatten": {"shape": (4, 4)},
    "bijections.Whiten": {"channels": 4, "kind": "pca", "rank": None},
    "nets.blank_encoder": {"event_shape": (4,), "latent_dim": 2, "width": 4},
    "nets.encoder_network": {"event_shape": (4,), "width": 4, "outputs": 2, "hidden": (4,)},
    "nets.pyramid": {"event_shape": (1, 8, 8), "width": 4},
    "nets.suits_convolutions": {"event_shape": (1, 8, 8)},
    "nets.MLP": {"event_shape": (4,), "hidden": (4,), "outputs": 2},
    "nets.ConvDecoder": {"inputs": 2, "event_shape": (1, 8, 8), "width": 4, "outputs": 1},
    "nets.ConvEncoder": {"event_shape": (1, 8, 8), "width": 4, "outputs": 2},
    "nets.Modulation": {"context_dim": 2, "channels": 4, "gain": 1.0},
    "nets.Residual": {"channels": 4},
    "vae.Bernoulli": {"bits": 8},
    "vae.DiscretisedLogistic": {"event_shape": (1, 4, 4), "bits": 8},
    "vae.Gaussian": {"event_shape": (4,), "bits": 8},
    "vae.VAE": {"event_shape": (4,), "latent_dim": 2, "encoder": None, "likelihood": LIKELIHOOD},
    "gan.GAN": {"event_shape": (4,), "latent_dim": 2, "generator": None, "discriminator": None},
    "gan.ConvDiscriminator": {"event_shape": (1, 8, 8), "width": 4},
    "gan.ConvGenerator": {"latent_dim": 2, "event_shape": (1, 8, 8), "width": 4},
    "gan.MLPDiscriminator": {"event_shape": (4,), "hidden": (4,)},
    "gan.MLPGenerator": {"latent_dim": 2, "event_shape": (4,), "hidden": (4,)},
    "gan.MaxoutDiscriminator": {"event_shape": (4,), "hidden": (4,), "pieces": 2, "drop": 0.5},
    "gan.MaxoutGAN": {"event_shape": (4,), "latent_dim": 2, "hidden": (4,), "maxout": (4,), "pieces": 2},
    "gan.ProgressiveGAN": {"event_shape": (1, 8, 8), "latent_dim": 2, "width": 4, "images": 10},
    "compose.EncodedGAN": {"event_shape": (4,), "latent_dim": 2},
    "compose.SharpenedVAE": {"event_shape": (4,), "latent_dim": 2},
    "flow.Flow": {"event_shape": (4,), "bijection": bijections.Invertible1x1(4)},
    "flow.Glow": {"event_shape": (2, 4, 4), "levels": 1, "depth": 1, "width": 4},
    "flow.NICE": {"event_shape": (4,), "couplings": 2, "hidden": (4,)},
    "flow.RealNVP": {"event_shape": (1, 4, 4), "levels": 1, "blocks": 1, "width": 4},
    "flow.SpectralFlow": {"event_shape": (4,), "groups": (2, 2), "width": 4, "couplings": 2, "coupling_width": 4},
    "report.Beside": {"blocks": [NOTE]},
    "report.Chart": {
        "series": [report.Series("a", [1.0], [1.0])],
        "x_label": "x",
        "y_label": "y",
        "alt": "alt",
        "kind": "line",
    },
    "report.Details": {"summary": "more", "blocks": [NOTE]},
    "report.Figure": {"picture": PICTURES[0], "alt": "alt", "caption": ""},
    "report.Frames": {
        "rows": [[PICTURES[0]] * 2],
        "row_labels": [""],
        "labels": ["a", "b"],
        "values": [0.0, 1.0],
        "alt": "alt",
    },
    "report.Page": {"title": "t", "lead": "", "sections": (report.Section("a", "A"),), "footer": ""},
    "report.Points": {"texts": ["one"]},
    "report.Section": {"anchor": "a", "title": "t", "text": ("one",), "blocks": (NOTE,), "verdict": None},
    "report.Series": {"name": "a", "x": [1.0], "y": [1.0], "stderr": None},
    "report.Strip": {"rows": [[PICTURES[0]]], "row_labels": [""], "column_labels": [], "alt": "alt"},
    "report.Table": {"columns": ["a"], "rows": [["b"]], "caption": "", "note": ""},
    "report.Text": {"text": "one"},
    "report.Verdict": {"holds": "holds", "sentence": "s", "how": "h"},
    "report.Wipe": {"before": PICTURES[0], "after": PICTURES[0], "labels": ("a", "b"), "alt": "alt"},
}
ROOMS = {room.__name__.removeprefix("triptych."): room for room in
         (data, edit, evaluate, compose, codecs, bijections, nets, vae, gan, flow, doctor, report)}  # fmt: skip
ROOMS["triptych"] = triptych


# made by the library, abstract, or tried by the tests of their own: tests/test_reparameterisation.py, test_python.py
APART = {
    *("data.Batch", "data.Skipped", "data.Source", "data.Splits", "doctor.Column", "doctor.Rule", "doctor.Verdict"),
    *("bijections.Additive", "bijections.Autoregressive", "bijections.Bijection", "bijections.Conditioner"),
    *("bijections.LogisticToNormal", "bijections.Mixing", "bijections.MultiScale", "bijections.NotInvertible"),
    *("bijections.Squeeze", "bijections.StepTransform", "bijections.Transform"),
    *("edit.Directions", "edit.Optimised", "edit.Reader", "edit.straightest"),
    *("edit.Chosen", "edit.Photograph", "edit.Placed", "edit.read_photograph"),
    *("evaluate.EfficientNet", "evaluate.Features", "evaluate.Gaussian", "evaluate.Inception", "evaluate.Learned"),
    *("evaluate.Local", "evaluate.Pixels", "evaluate.Quality", "evaluate.Reference", "flow.most_extreme"),
    *("gan.Adversarial", "nets.he_", "nets.perceptron", "vae.LaplaceNoise", "vae.Likelihood", "vae.LogisticNoise"),
    *("triptych.TriptychError", "triptych.load", "triptych.read", "triptych.resume", "triptych.save", "triptych.train"),
    *("vae.Noise", "vae.NormalNoise", "evaluate.marginal_log_likelihood"),
    *("report.Block", "report.Number", "report.write"),  # what was measured may be NaN
}


def test_everything_public_has_a_call() -> None:
    public = {
        f"{room}.{name}" for room, module in ROOMS.items() for name in module.__all__ if callable(getattr(module, name))
    }
    tried = {_callable(name) for name in CALLS}
    assert {name for name in public if _callable(name) not in tried} == APART


def _callable(name: str) -> Callable[..., Any]:
    room, _, called = name.partition(".")
    return getattr(ROOMS[room], called)


def _holds_nan(result: Any) -> bool:
    if isinstance(result, Tensor):
        return result.is_floating_point() and bool(result.isnan().any())
    if isinstance(result, dict | tuple | list) and not hasattr(result, "value"):
        return any(map(_holds_nan, result.values() if isinstance(result, dict) else result))
    value = getattr(result, "value", result)
    return isinstance(value, float) and value != value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_said(name: str) -> None:
    call, right = _callable(name), CALLS[name]
    torch.manual_seed(0)
    assert not _holds_nan(call(**right))
    escaped = []
    for argument in right:
        for what, wrong in WRONG.items():
            try:
                if _holds_nan(call(**{**right, argument: wrong})):
                    escaped.append(f"{argument} = {what}: NaN")
            except TriptychError as error:
                assert "\n" not in str(error) and len(str(error)) < 700, error
            except Exception as error:
                escaped.append(f"{argument} = {what}: {type(error).__name__}: {error}"[:200])
    assert not escaped, "\n".join(escaped)


START: dict[str, Any] = {"family": "vae", "data": X, "steps": 1}
REFUSED: dict[str, dict[str, list[Any]]] = {
    "train": {
        "family": [None, 3, "nothing", object()],
        "data": [
            None,
            3,
            "",
            "nothing here",
            "x" * 300,
            "a\0b",
            torch.full((9, 4), torch.nan),
            torch.empty(0, 4),
            [],
            object(),
        ],
        "steps": ["many", float("nan"), -1, 0, 10**18, 1.5, [3]],
        "minutes": ["many", float("nan"), -1.0, 1e300],
        "seed": ["one", -1, 1.5, 10**30],
        "size": ["big", 0, -1, 1.5],
        "augment": [3, "flop"],
        "training": ["fast", 3, {"batch": "x"}, {"batch": float("nan")}, {"rate": "high"}, {"batch": [1]}, {"nothing": 1}],
        "model": [{"latent_dim": "x"}, {"latent_dim": -1}, {"latent_dim": 10**18}, {"hidden": 3}, {"hidden": ["a"]}],
        "objective": [{"beta": "x"}, {"beta": None}, {"estimator": 3}],
    },
    "load": {"source": [None, 3, "", "nothing/here/at/all", "x" * 300, "a\0b", "/dev/null"]},
    "resume": {"out": [None, 3, "", "nothing/here/at/all", "x" * 300, "a\0b", "/dev/null"]},
}


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in REFUSED for argument in REFUSED[name]])
def test_what_cannot_be_trained_or_loaded_is_refused(name: str, argument: str) -> None:
    call = getattr(triptych, name)
    for wrong in REFUSED[name][argument]:
        start = dict(START) if name == "train" else {}
        if argument == "minutes":
            del start["steps"]
        with pytest.raises(TriptychError) as error:
            call(**{**start, argument: wrong})
        assert "\n" not in str(error.value), wrong


METHODS: dict[str, dict[str, Any]] = {
    "sample": {"n": 2, "temperature": 1.0, "context": None, "generator": None},
    "sample_prior": {"n": 2, "temperature": 1.0, "generator": None},
    "decode": {"z": torch.zeros(3, 2)},
    **{name: {"x": X} for name in ("encode", "posterior", "log_prob", "logits")},
}


@pytest.mark.parametrize("model", [VAE, NICE, triptych.GAN((4,), 2).eval()], ids=lambda model: type(model).__name__)
def test_a_models_methods_say_what_is_wrong(model: Any) -> None:
    """They are called more than any function: a tensor of finite numbers, or one line."""
    for method in (name for name in METHODS if callable(getattr(type(model), name, None))):
        right = METHODS[method]
        for argument in right:
            for said, value in (WRONG | {"whole numbers": torch.ones(3, 2 + 2 * (argument == "x")).long()}).items():
                try:
                    result = getattr(model, method)(**right | {argument: value})
                except TriptychError as error:
                    assert "\n" not in str(error)
                    continue
                assert all(part.isfinite().all() for part in (result if isinstance(result, tuple) else (result,))), said


class Wide(GenerativeModel):
    """x = z."""

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        return z


@pytest.mark.parametrize("name", ["sample", "sample_prior", "interpolate", "VAE"])
def test_memory_that_a_number_asks_for_in_vain_is_one_line(name: str) -> None:
    """Within the bounds of what a number may be, and beyond any machine: refused by the allocator, whatever is free."""
    pictures = torch.zeros(32, 1, 64, 64)
    call: Callable[[], Any] = {
        "sample": lambda: Wide((2**20,), 2**20, codecs.Floats()).sample(10**9),
        "sample_prior": lambda: Wide((2**20,), 2**20, codecs.Floats()).sample_prior(10**9),
        "interpolate": lambda: edit.interpolate(triptych.VAE((1, 64, 64), 2), pictures, pictures, n=10**9),
        "VAE": lambda: triptych.VAE((2**42,)),
    }[name]
    with pytest.raises(TriptychError, match="not enough memory: lower the number"):
        call()
