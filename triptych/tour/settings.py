"""How large a tour is: the lengths of its trainings, and the examples of its measures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from triptych import families
from triptych.recipes import Recipe

JOINT = ("smile", "age", "hair_length", "beard", "glasses", "earrings", "head_turn", "light", "skin_tone", "hair_colour")
"""Attributes whose directions are learned, and read by the judge."""


@dataclass(frozen=True)
class Trained:
    """A model that a tour trains.

    >>> Trained("VAE", "vae", 100, 10.0, objective={"beta": 2.0}).scaled(0.5).recipe(seed=1).steps
    50
    """

    title: str
    """What the report calls it."""
    family: str
    """Of its recipe, whose preset for the drawn faces is taken."""
    steps: int
    """Of training."""
    cost: float
    """CPU seconds that they take on the machine of the record."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the preset's networks."""
    objective: Mapping[str, Any] = field(default_factory=dict)
    """Changes to its game."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Changes to its loop."""
    init: str = ""
    """The model whose weights it starts from."""
    data: str = ""
    """Faces that it learns from, as `triptych.data.load` reads them; the tour's where nothing is said."""
    examples: int = 0
    """How many training faces it sees; 0: all."""

    def scaled(self, share: float) -> Trained:
        """With a share of the steps."""
        return dataclasses.replace(self, steps=max(2, round(share * self.steps)), cost=share * self.cost)

    def recipe(self, seed: int) -> Recipe:
        """Its recipe, for data that are given."""
        preset = families.preset(self.family, data="faces")
        training = {"save_every": 10**9, "save_minutes": 0.5, "log_every": 50, **self.training}
        objective = dict(self.objective)
        if "sharpen" in objective:  # of a model that starts from another's weights all steps are, however few
            objective["sharpen"] = min(objective["sharpen"], self.steps)
        return dataclasses.replace(
            preset,
            model=dataclasses.replace(preset.model, **self.model),
            objective=dataclasses.replace(preset.objective, **objective),
            training=dataclasses.replace(preset.training, **training),
            size=None,
            steps=self.steps,
            seed=seed,
        )


@dataclass(frozen=True)
class Settings:
    """The size of a tour."""

    name: str
    """Of the settings."""
    models: Mapping[str, Trained]
    """The models that are trained, and measured in a row each, by name."""
    others: Mapping[str, Trained] = field(default_factory=dict)
    """Models of which only samples and likelihoods are measured: what a quick tour quotes from earlier figures."""
    size: int = 32
    """Side of the faces, in pixels."""
    examples: int = 20_000
    """Training faces; a tenth as many are held out."""
    judge_steps: int = 1500
    """Training of the network that reads attributes."""
    feature_steps: int = 600
    """Training of the network whose features samples are compared by."""
    encoder_steps: int = 500
    """Training of the GAN's encoder."""
    lessons: int = 4000
    """Training faces that directions are learned from."""
    samples: int = 1000
    """Samples of each model that are compared with as many held-out faces."""
    tempered: int = 500
    """The same at each temperature."""
    scored: int = 200
    """Held-out faces that likelihoods and reconstructions are measured on."""
    draws: int = 200
    """Importance-weighted draws of the bound."""
    moved: int = 100
    """Held-out faces that are edited, and read by the judge."""
    repetitions: int = 60
    """Estimates of a gradient, for its variance."""
    rounds: int = 600
    """Of each game in one dimension."""
    long_game: int = 0
    """Rounds of a game with ten minibatches of D to one of G; 0 quotes one."""
    viewers: int = 0
    """Simulated viewers that pictures are made for, and as many others that this is learned from; 0 quotes 200."""
    searched: int = 16
    """Held-out faces whose z is searched for in the GAN, and that are optimised."""
    search: int = 150
    """Steps of such a search."""
    seed: int = 0
    """Of weights, batches and noise."""

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, words and lists."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Settings:
        """What `to_json` made.

        >>> Settings.from_json(QUICK.to_json()) == QUICK
        True
        """
        kinds = {
            kind: {name: Trained(**{key: _tuples(v) for key, v in m.items()}) for name, m in said[kind].items()}
            for kind in ("models", "others")
        }
        return cls(**{**said, **kinds})

    def scaled(self, share: float) -> Settings:
        """What a slower machine does in the same time: trainings of a share of the steps, and measures of fewer examples.

        Of the examples at least half stay, so that errors grow by no more than √2.

        >>> fewer = QUICK.scaled(0.25)
        >>> fewer.models["vae"].steps / QUICK.models["vae"].steps, fewer.samples / QUICK.samples
        (0.25, 0.5)
        """
        if share == 1:
            return self
        counts = {name: max(2, round(measured(share) * getattr(self, name))) for name in _EXAMPLES}
        return dataclasses.replace(
            self,
            models={name: trained.scaled(share) for name, trained in self.models.items()},
            others={name: trained.scaled(share) for name, trained in self.others.items()},
            encoder_steps=max(2, round(share * self.encoder_steps)),
            **counts,
        )

    @property
    def trained(self) -> dict[str, Trained]:
        """All models that are trained."""
        return {**self.models, **self.others}


_EXAMPLES = ("samples", "tempered", "scored", "draws", "moved", "repetitions")
"""What measures have fewer of on a slower machine."""


def measured(share: float) -> float:
    """The share of its examples that a measure has where trainings have a share of their steps."""
    return min(1.0, max(0.5, share))


def _tuples(value: Any) -> Any:
    """A mapping whose lists are tuples again, as recipes have them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()} if isinstance(value, Mapping) else value


_NORMAL, _PLAIN = {"prior": "normal"}, {"whiten": "none", "positions": False}  # families alone
# of a short run: narrower networks, smaller minibatches and a higher rate make more of each second
_NARROW, _SHORT = {"width": 16}, {"batch": 32, "rate": 4e-3}
# a face has some hundred principal components that matter: of the others a flow learns little that one sees
_FEW_COMPONENTS = {"rank": 256, "groups": (16, 16, 32, 64, 128), "width": 128, "coupling_width": 64}

QUICK = Settings(
    "quick",
    {
        "vae": Trained("VAE + flow prior", "vae", 4800, 118.0, model=_NARROW, training=_SHORT),
        "gan": Trained("GAN", "dcgan", 2000, 87.0),
        "spectral": Trained("spectral flow", "spectral", 600, 69.0, model=_FEW_COMPONENTS),
        "glow": Trained("Glow, whitened", "glow", 400, 61.0, model={"rank": 384}, training={"batch": 16, "rate_warmup": 50}),
        "sharp": Trained(
            "VAE + prior, sharpened",
            "vae",
            200,
            27.0,
            model=_NARROW,
            objective={"sharpen": 200},
            training={"batch": 32},
            init="vae",
        ),
    },
    others={"alone-vae": Trained("VAE, N(0, I), as long", "vae", 4100, 118.0, model=_NARROW | _NORMAL, training=_SHORT)},
)
"""A few minutes on two cores."""

CONFOUNDED = "faces?hair_length:beard=-0.9"
"""Faces whose beards go with short hair."""

MIXING = tuple((coupling, how) for coupling in ("additive", "affine") for how in ("invertible", "shuffle", "reverse"))
"""Couplings and ways of mixing channels that are compared."""
FEW = {"vae": "VAE + flow prior", "dcgan": "GAN", "spectral": "spectral flow"}
"""Families that learn from few faces, and what they are called."""
COUNTS = (100, 1000, 10_000)
"""How many."""


_OF_FEW = ((1500, 56.0), (2500, 100.0), (600, 150.0))  # steps and CPU seconds of each


def _mixed(coupling: str, how: str) -> Trained:
    model = {"coupling": coupling, "permutation": how, "depth": 4, **_PLAIN}
    return Trained(f"Glow, {coupling}, {how}", "glow", 800, 47.0, model=model)


FULL = Settings(
    "full",
    {
        "vae": Trained("VAE + flow prior", "vae", 15_000, 540.0),
        "gan": Trained("GAN", "dcgan", 16_000, 690.0),
        "spectral": Trained("spectral flow", "spectral", 3000, 610.0),
        "glow": Trained("Glow, whitened", "glow", 4000, 640.0),
        "sharp": Trained("VAE + prior, sharpened", "vae", 3000, 440.0, objective={"sharpen": 3000}, init="vae"),
    },
    others={
        "alone-vae": Trained("VAE, N(0, I), as long", "vae", 12_000, 540.0, model=_NORMAL),
        "alone-glow": Trained("Glow, as published", "glow", 5700, 640.0, model=_PLAIN),
        "longer-vae": Trained("VAE + flow prior, longer", "vae", 12_700, 440.0, init="vae"),
        "confounded-vae": Trained(
            "VAE of confounded faces", "vae", 5000, 120.0, model=_NARROW, training=_SHORT, data=CONFOUNDED
        ),
    }
    | {f"mixing-{coupling}-{how}": _mixed(coupling, how) for coupling, how in MIXING}
    | {
        f"few-{family}-{count}": Trained(f"{title}, {count:,} faces", family, steps, cost, examples=count)
        for (family, title), (steps, cost) in zip(FEW.items(), _OF_FEW, strict=True)
        for count in COUNTS
    },
    judge_steps=4000,
    encoder_steps=2000,
    lessons=9000,
    tempered=1000,
    scored=500,
    draws=1000,
    moved=256,
    repetitions=400,
    rounds=1500,
    long_game=1500,
    viewers=200,
    searched=64,
    search=300,
)
"""For an evening: `touring.MINUTES` of two cores at most."""
