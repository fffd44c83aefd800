"""Directions without labels: where codes of data vary most, or where pictures change most.

Shapes: z (n, L) codes, J (D, L) the Jacobian of decode at one z, u (D,) and g (L,); context (n, K), or (1, K), or None.

    pca        the principal components of the codes of data      (Härkönen et al. 2020, GANSpace, arXiv 2004.02546)
    jacobian   the eigenvectors of E_p(z)[JᵀJ], largest first: the unit steps δ with the largest E |Jδ|², what the decoded
               values change by. Of one z these are the right singular vectors of J (Ramesh, Choi & LeCun 2018, arXiv
               1812.01161; Wang & Ponce 2021, arXiv 2101.06006); of the first linear layer alone, SeFa's (Shen & Zhou 2021).

J is never made, which of a flow with D = L = 3,072 would have 9 million numbers for each z. With u ~ N(0, I)

    E_z E_u [g gᵀ] = E_z [Jᵀ E[u uᵀ] J] = E_z [JᵀJ],      g = Jᵀu = ∇_z (u · decode(z)),

so that one backward pass for each draw of z and u gives the matrix by its samples, whose leading singular vectors are the
directions (active subspaces: Constantine, Dow & Wang 2014). What the u add to the error is that of a covariance of as many
Gaussian samples; exact columns of J would cost L passes for each z, and so be of fewer z.

A coordinate counts standard deviations of the codes of data from their mean, either way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from triptych.core import GenerativeModel
from triptych.edit.depth import depth_of
from triptych.edit.directions import Directions, calibrated
from triptych.edit.inversion import coordinate_model
from triptych.errors import TriptychError, check_choice, check_size
from triptych.evaluate.latent import codes
from triptych.modes import frozen, in_eval_mode
from triptych.progress import tracked
from triptych.randomness import standard_normal

Unlabelled = Literal["pca", "jacobian"]
NAMES = {"pca": "pc", "jacobian": "jac"}
_AT_ONCE = 64  # draws of one backward pass


@in_eval_mode
def unsupervised_directions(
    model: GenerativeModel,
    stored: Tensor,
    count: int,
    *,
    method: Unlabelled = "pca",
    draws: int = 1024,
    seed: int = 0,
    context: Tensor | None = None,
) -> Directions:
    """`count` directions, the strongest first: pc1 … or jac1 …, c in standard deviations of the codes of `stored`.

    Args:
        method: see the head of this file.
        draws: of z and u, of the Jacobian; of a flow at a depth its codes of samples.
        seed: of these draws.
        context: of a conditional model, what the examples show, and what draws are decoded with.

    Raises:
        TriptychError: for more directions than there are dimensions, examples or draws.

    >>> import triptych
    >>> vae, stored = triptych.VAE((4,), 2), torch.randn(50, 4)
    >>> list(unsupervised_directions(vae, stored, 2, method="jacobian", draws=20))
    ['jac1', 'jac2']
    """
    check_choice("method", method, tuple(NAMES))
    check_components(count, len(stored), model.latent_dim)
    z = codes(coordinate_model(model), stored, context=context)
    axes = _components(z, count) if method == "pca" else _sensitive(model, count, draws, seed, context)
    found = Directions()
    for i, axis in enumerate(axes, 1):
        name, reading = f"{NAMES[method]}{i}", z @ axis
        anchors = (0.0, float(reading.mean())), (1.0, float(reading.mean() + reading.std(correction=0)))
        found[name] = calibrated(name, "unsupervised", axis, axis, anchors, z)
    return found.at(depth_of(model))


def _components(z: Tensor, count: int) -> Tensor:
    """Principal components of z (n, L): (count, L)."""
    from sklearn.decomposition import PCA

    return torch.tensor(PCA(count, random_state=0).fit(z.numpy()).components_, dtype=torch.float32)


def _sensitive(model: GenerativeModel, count: int, draws: int, seed: int, context: Tensor | None) -> Tensor:
    """The leading eigenvectors of E[JᵀJ], (count, L), each with its largest entry positive."""
    from sklearn.decomposition import TruncatedSVD

    check_size("draws", draws, 10**6, least=max(2, count))
    g = _gradients(model, draws, seed, context)
    if not g.isfinite().all():
        raise TriptychError("the gradients of decode are not finite at draws of p(z): this model has no Jacobian there")
    axes = TruncatedSVD(count, n_iter=10, random_state=0).fit(g.numpy()).components_
    signs = np.sign(axes[np.arange(count), np.abs(axes).argmax(1)])
    return torch.tensor(axes * signs[:, None], dtype=torch.float32)


def _gradients(model: GenerativeModel, draws: int, seed: int, context: Tensor | None) -> Tensor:
    """g = Jᵀu at draws of z ~ p(z), (draws, L)."""
    noise, found = torch.Generator().manual_seed(seed), []
    drawn = model.sample_prior(draws, generator=noise)
    rows = [] if context is None else (torch.arange(draws) % len(context)).split(_AT_ONCE)
    with frozen(model):
        for i, z in enumerate(tracked(drawn.split(_AT_ONCE), "differentiating", -(-draws // _AT_ONCE))):
            z = z.detach().requires_grad_()
            with torch.enable_grad():
                x = model.decode(z, model.check_context(context if context is None else context[rows[i]], len(z)))
                u = standard_normal(*x.shape, generator=noise, device=x.device)
                found.append(torch.autograd.grad((u * x).sum(), z)[0].cpu())
    return torch.cat(found)


def check_components(count: int, n: int, latent_dim: int) -> None:
    """Raises unless `count` directions can be had of n codes: 1 ≤ count ≤ min(n, L)."""
    if not 1 <= count <= min(n, latent_dim):
        raise TriptychError(f"unsupervised directions: expected 1 to {min(n, latent_dim)}, got {count}")
