"""What each measure is called on a page, which way is better, and what a person should know of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["likelihood", "codes", "samples"]


class Measure(NamedTuple):
    """A row of a comparison.

    Attributes:
        label: for a person.
        group: the table in which it stands.
        better: "low", "high" or "half" (½ is the best); "" where neither is.
        unit: of its value.
    """

    label: str
    group: Group
    better: str = ""
    unit: str = ""

    @property
    def head(self) -> str:
        """The label, with what is better."""
        arrow = {"low": " ↓", "high": " ↑", "half": " → ½"}.get(self.better, "")
        return self.label + arrow


MEASURES: dict[str, Measure] = {
    "bits_per_dim": Measure("bits per dimension", "likelihood", "low"),
    "nll": Measure("−log p(x), nats", "likelihood", "low"),
    "nll_unconditional": Measure("−log p(x), nothing known, nats", "likelihood", "low"),
    "elbo": Measure("ELBO, nats", "likelihood", "high"),
    "log_likelihood": Measure("its reconstruction term, nats", "likelihood"),
    "kl": Measure("its divergence, nats", "likelihood"),
    "log_marginal_hmc": Measure("log p(x) by HMC, nats", "likelihood", "high"),
    "reconstruction_rmse": Measure("reconstruction error (range 1)", "codes", "low"),
    "inversion_rmse": Measure("error of inversion (range 1)", "codes", "low"),
    "round_trip_p999": Measure("round trip, 99.9th percentile", "codes", "low"),
    "round_trip_max": Measure("round trip, largest error", "codes", "low"),
    "bytes_recovered": Measure("stored values recovered", "codes", "high"),
    "active_units": Measure("active latent dimensions", "codes"),
    "fid": Measure("Fréchet distance", "samples", "low"),
    "frechet_efficientnet": Measure("Fréchet distance (EfficientNet)", "samples", "low"),
    "kid": Measure("kernel distance", "samples", "low"),
    "kernel_efficientnet": Measure("kernel distance (EfficientNet)", "samples", "low"),
    "c2st_1nn": Measure("told from data by nearest neighbours", "samples", "half"),
    "c2st_logistic": Measure("told from data by logistic regression", "samples", "half"),
    "precision": Measure("precision", "samples", "high"),
    "recall": Measure("recall", "samples", "high"),
    "density": Measure("density", "samples", "high"),
    "coverage": Measure("coverage", "samples", "high"),
    "swd": Measure("sliced Wasserstein distance × 10³", "samples", "low"),
    "ms_ssim": Measure("MS-SSIM of pairs", "samples"),
    "nearest_ratio": Measure("nearest ratio (1: no copies)", "samples", "high"),
    "copied": Measure("share that copy one training example", "samples", "low"),
}
"""By the names that `triptych evaluate` has."""


def measure(name: str, group: Group = "samples") -> Measure:
    """A measure by its name; one that is not in the table is called by its name.

    Args:
        group: of one that is not in the table.

    >>> measure("kl").label, measure("swd_16").head
    ('its divergence, nats', 'sliced Wasserstein × 10³ at 16 pixels ↓')
    """
    if name in MEASURES:
        return MEASURES[name]
    if name.startswith("bits_per_dim_k"):
        draws = name.removeprefix("bits_per_dim_k")
        return Measure(f"bits per dimension, {draws} draws", "likelihood", "low")
    if name.startswith("swd_"):
        return Measure(f"sliced Wasserstein × 10³ at {name.removeprefix('swd_')} pixels", "samples", "low")
    return Measure(name, group)
