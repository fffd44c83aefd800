"""What a tour does, in the order in which it is begun: a part is begun as soon as the parts that it needs are done."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from triptych.tour import bound, codes, edits, game, memory, rows, training, viewers
from triptych.tour.place import ON_BOARD, onboard
from triptych.tour.schedule import Part
from triptych.tour.settings import Settings

ROW = 11.0  # CPU seconds of a row


def parts_of(settings: Settings) -> list[Part]:
    """The parts: trainings first, the longest before the others."""
    return [*_trainings(settings), *_rows(settings), *_measures(settings)]


def _trainings(settings: Settings) -> Iterator[Part]:
    for name, trained in settings.trained.items():
        needs = (trained.init,) if trained.init else ()
        yield Part(name, f"training the {trained.title}", partial(training.train, name=name), trained.cost, needs, "steps")
    yield Part(
        "encoder", "learning the GAN's encoder", training.learn_encoder, 0.14 * settings.encoder_steps, ("gan",), "steps"
    )
    yield Part("judge", "learning the judge of edits", training.learn_judge, settings.judge_steps / 52)
    yield Part("features", "learning what samples are compared by", training.learn_features, 13.0)


def _rows(settings: Settings) -> Iterator[Part]:
    """A row for each model, and for each on board."""
    shared = ("judge", "features")
    for name in rows_of(settings):
        needs = {"normal": ("vae", "row-vae"), "gan": ("gan", "encoder")}.get(name, () if name in ON_BOARD else (name,))
        title = f"measuring {name}, on board" if name in ON_BOARD else f"measuring the {titles(settings)[name]}"
        yield Part(f"row-{name}", title, partial(rows.measure, name=name), ROW, (*shared, *needs), "examples")


def _measures(settings: Settings) -> Iterator[Part]:
    for name, trained in settings.others.items():
        work = partial(rows.measure_other, name=name)
        yield Part(f"other-{name}", f"measuring the {trained.title}", work, ROW, (name, "features"), "examples")
    yield Part("floor", "measuring real faces", rows.measure_floor, 2.0, ("features",), "examples")
    yield Part("bound", "weighing the bound", bound.measure_bound, 5.0, ("vae",), "examples")
    yield Part("gradients", "estimating gradients", bound.measure_gradients, 2.0, ("vae",), "examples")
    yield Part("confounded", "confounding two attributes", edits.measure_confounded, 5.0, ("vae", "judge"), "examples")
    yield Part("game", "playing a game in one dimension", game.measure_game, _game(settings))
    yield Part("memory", "counting what gradients need", memory.measure_memory, 2.0)
    yield Part("inversion", "searching for codes of a GAN", codes.measure_inversion, 2.0, ("gan", "encoder"))
    yield Part("exactness", "differentiating a whole flow", codes.measure_exactness, 3.0, ("spectral",))
    needs = ("vae", "gan", "encoder", "spectral", "features")
    yield Part("temperatures", "sampling at temperatures", codes.measure_temperatures, 3.0, needs, "examples")
    yield Part("probes", "probing codes with few labels", codes.measure_probes, 5.0, ("vae", "gan", "encoder"))
    yield Part("perturbations", "optimising smiles", edits.measure_perturbations, 16.0, ("vae", "judge"))
    if settings.viewers:
        yield Part("viewers", "making a picture for each viewer", viewers.measure_viewers, 90.0, ("vae", "judge"))
    if "confounded-vae" in settings.others:
        own = ("confounded-vae", "judge")
        yield Part("confounded-alone", "confounding a VAE", edits.measure_confounded_alone, 5.0, own, "examples")


def _game(settings: Settings) -> float:
    """CPU seconds of the games, by their minibatches."""
    return 7.0 / 1200 * (2 * settings.rounds + (1 + game.LONG) * settings.long_game)


def rows_of(settings: Settings) -> list[str]:
    """The models that have a row: those of the tour, the VAE with N(0, I), and those on board."""
    here = [name for name in ON_BOARD if onboard(name) is not None and settings.size == 32]
    return ["vae", "normal", *(name for name in settings.models if name != "vae"), *here]


def titles(settings: Settings) -> dict[str, str]:
    """What each row is called."""
    own = {name: trained.title for name, trained in settings.trained.items()}
    return (
        own | {"normal": "VAE, N(0, I)", "gan": "GAN + encoder"} | {name: f"{t}, on board" for name, t in ON_BOARD.items()}
    )
