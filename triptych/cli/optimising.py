"""`triptych edit --optimise PROBE`: pictures changed to where a scikit-learn estimator scores them highest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from triptych.cli.options import Edit
    from triptych.core import GenerativeModel
    from triptych.edit.showing import Change

STEPS, FRAMES = 100, 24  # by default, and of a film


def optimised(options: Edit, model: GenerativeModel, context: Tensor | None) -> Change:
    """What changes pictures as --optimise says; where --out ends in .gif, the way there."""
    import torch

    from triptych import edit
    from triptych.edit.probes import load_probe, probe_score

    assert options.optimise is not None
    steps = STEPS if options.steps is None else options.steps
    score, film = probe_score(load_probe(options.optimise), model), options.out.suffix.lower() == ".gif"

    def change(x: Tensor, z: Tensor) -> Tensor:
        found = edit.optimise(model, x, score, within=options.within, steps=steps, context=context, z=z, seed=options.seed)
        if not film:
            return found.x[:, None]
        chosen = torch.linspace(0, len(found.path) - 1, min(FRAMES, len(found.path))).round().long()
        with torch.no_grad():
            return torch.stack([model.decode(z, context) for z in found.path[chosen]], 1)

    return change


def settings(options: Edit) -> dict[str, Any]:
    """What decides how pictures are optimised, as a folder of them keeps it."""
    from triptych import storage

    assert options.optimise is not None
    return {
        "optimise": storage.digest(options.optimise),
        "within": options.within,
        "steps": options.steps,
        "seed": options.seed,
    }
