"""What examples are compared by: raw pixels, a small network trained on the data itself, or a published one.

Shapes: stored (n, *E), as a split gives them; features (n, d), float32.

Distances between sets mean something only within one set of features, so each carries a name, and a learned one a digest
of its weights: measures of different names are not comparable, and `Quality.compare` refuses them.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import progress
from triptych.codecs import Floats
from triptych.core import Codec
from triptych.data import Split, fixed_subset
from triptych.errors import TriptychError
from triptych.nets import MLP, ConvDecoder, encoder_network, suits_convolutions
from triptych.randomness import seeded

INCEPTION = "inception-2015-12-05.pt"
KEPT = 1000  # training examples that features are not fitted to, where there are twice as many


class Kept(NamedTuple):
    """Which examples of a split features were not fitted to: the split's digest, and their rows."""

    split: str
    rows: np.ndarray


class Features(ABC):
    """stored (n, *E) -> (n, d).

    Attributes:
        name: the label of results; only those with one label are comparable.
        kept: the examples that were kept out of fitting; None where nothing was fitted.
        frechet, kernel: what the distances by these features are called.
    """

    name: str
    frechet: ClassVar[str] = "fid"
    kernel: ClassVar[str] = "kid"
    kept: Kept | None = None

    def unseen(self, split: Split) -> np.ndarray:
        """Rows of the split that the features were not fitted to: all rows of any other split than the fitted one.

        All rows, too, where none was kept out.
        """
        if self.kept is not None and len(self.kept.rows) and self.kept.split == _identity(split):
            return self.kept.rows
        return np.arange(len(split))

    @abstractmethod
    def of(self, stored: Tensor) -> Tensor:
        """The features of a batch."""

    @torch.no_grad()
    def __call__(self, stored: Tensor, batch: int = 256) -> Tensor:
        """The features of any number of examples, (n, d) on the CPU."""
        return torch.cat([self.of(part).float().cpu() for part in stored.split(batch)])


class Pixels(Features):
    """The values themselves, pictures in [0, 1]: no network to rely on, but far from human perception.

    Args:
        reading: how floats are read, so that a column does not count by its unit; None: as they are. See `reading_of`.

    >>> Pixels()(torch.tensor([[0, 255]], dtype=torch.uint8))
    tensor([[0., 1.]])
    """

    name = "pixels"

    def __init__(self, reading: Codec | None = None):
        self.reading = reading
        if reading is not None and (scales := reading.fitted()):
            self.name = f"standardised-{hashlib.sha256(repr(scales).encode()).hexdigest()[:8]}"

    def of(self, stored: Tensor) -> Tensor:
        return (read(stored, self.reading) if stored.is_floating_point() else stored.float() / 255).flatten(1)


class Learned(Features):
    """A small network trained on the data: its last layer before the prediction.

    Args:
        net: x (B, *E) in [−1, 1] (pictures) -> (B, d).
        taught: the task it was trained for.
        kept: examples that it was not trained on.
        reading: how floats are read.
    """

    def __init__(self, net: nn.Module, taught: str, kept: Kept | None = None, reading: Codec | None = None):
        self.net, self.taught, self.kept, self.reading = net.eval(), taught, kept, reading
        weights = b"".join(v.detach().cpu().contiguous().numpy().tobytes() for v in net.state_dict().values())
        self.name = f"learned-{taught}-{hashlib.sha256(weights).hexdigest()[:8]}"

    def of(self, stored: Tensor) -> Tensor:
        return self.net(centred(stored, self.reading))


class Inception(Features):
    """The pooling layer of Inception v3 (d = 2048), with which published FIDs are measured (Heusel et al. 2017).

    Pictures only. Grey ones are repeated three times; the network itself resizes to 299 × 299.

    Args:
        path: a TorchScript file that takes uint8 (B, 3, H, W) and `return_features=True`.
    """

    name = "inception"

    def __init__(self, path: Path):
        with warnings.catch_warnings():
            # the published file is TorchScript, whatever becomes of that format
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated", category=DeprecationWarning)
            try:
                self.net = torch.jit.load(str(path), map_location="cpu").eval()
            except (RuntimeError, ValueError, OSError) as error:
                raise TriptychError(f"{path} is not a TorchScript file: put {INCEPTION} (StyleGAN2-ADA's) there") from error

    def of(self, stored: Tensor) -> Tensor:
        return self.net(in_colour(stored, "Inception"), return_features=True)


def in_colour(stored: Tensor, network: str) -> Tensor:
    """8-bit pictures (B, 1 or 3, H, W) as (B, 3, H, W), grey ones repeated.

    Raises:
        TriptychError: for anything else, which the network of that name cannot see.
    """
    if stored.dtype != torch.uint8 or stored.ndim != 4 or stored.shape[1] not in (1, 3):
        raise TriptychError(f"{network} takes 8-bit pictures, grey or RGB, got {stored.dtype} {tuple(stored.shape)}")
    return stored.expand(-1, 3, -1, -1)


def learn_features(
    train: Split, *, steps: int = 600, batch: int = 64, width: int = 16, size: int = 128, seed: int = 0, keep: int = KEPT
) -> Learned:
    """A convolutional network (a perceptron for what is not a picture) with `size` features, trained on the split.

    To a network, the examples that it was fitted to look unlike new ones (of 1,000 faces, .44 of them lay among held-out
    ones, of new faces .68), so that they cannot stand for real data. Hence a fixed subset of the split is kept out; `unseen`
    returns it.

    Args:
        steps, batch: of the training.
        width: channels of the first convolutions.
        seed: of weights, batches and noise.
        keep: how many examples are kept out, but never more than half.
    """
    known = kept_out(train, keep)
    train = train.take(np.setdiff1d(np.arange(len(train)), known.rows)) if len(known.rows) else train
    reading = reading_of(train)
    with seeded(seed):
        net = blank_network(train.event_shape, width, size)
        task = _task(train, size, width)

        def loss() -> Tensor:
            rows = torch.randint(len(train), (min(batch, len(train)),)).numpy()
            return task.loss(net, centred(train[rows], reading), rows)

        parameters = [*net.parameters(), *task.head.parameters()]
        for _ in descend(parameters, loss, steps, 2e-3, f"learning features ({task.name})"):
            pass
    return Learned(net, task.name, known, reading)


def blank_network(event_shape: tuple[int, ...], width: int = 16, size: int = 128) -> nn.Module:
    """The network of `learn_features` before it has learned, its weights from torch's random state: x -> (B, size)."""
    return encoder_network(event_shape, width, size, (256, 256))


def kept_out(train: Split, keep: int) -> Kept:
    """The examples that `learn_features` keeps out: a fixed subset, never more than half."""
    return Kept(_identity(train), np.sort(fixed_subset(len(train), min(keep, len(train) // 2))))


def descend(
    parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], steps: int, rate: float, title: str = "learning"
) -> Iterator[Tensor]:
    """Minimises loss() over the parameters by Adam, one cycle of the rate; each step's loss in turn.

    Args:
        title: of the work, for a listener (`triptych.progress`).
    """
    optimizer = torch.optim.Adam(parameters, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    with progress.begun(title, steps) as task:
        for step in range(steps):
            value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            task.update(step + 1, partial("loss {:.4g}".format, value.detach()))
            yield value


def digest(stored: Tensor) -> str:
    """Eight hexadecimal digits of the SHA-256 of stored data, with which sets are told apart."""
    values = stored.detach().cpu().contiguous()
    return hashlib.sha256(f"{values.dtype} {tuple(values.shape)}".encode() + values.numpy().tobytes()).hexdigest()[:8]


def _identity(split: Split) -> str:
    """What tells a split from others: its length, and a few of its examples."""
    return f"{len(split)}-{digest(split[fixed_subset(len(split), 16)])}"


class _Task(NamedTuple):
    """What a network is trained for: a head, and a loss of the network, x (B, *E) in [−1, 1] and its rows in the split."""

    name: str
    head: nn.Module
    loss: Callable[[nn.Module, Tensor, np.ndarray], Tensor]


def _task(train: Split, size: int, width: int) -> _Task:
    """To predict the first class that the split has, else all attributes, else to remove noise."""
    known = {name: np.asarray(a, np.float64) for name, a in train.attributes.items() if not np.isnan(a).all()}
    named = {
        kind: [a for name, a in known.items() if train.kinds[name] == kind] for kind in ("class", "binary", "continuous")
    }
    if named["class"]:
        return _classes(named["class"][0], size)
    if others := named["binary"] + named["continuous"]:
        return _attributes(np.stack(others, 1), size)
    return _denoising(train.event_shape, size, width)


def _classes(labels: np.ndarray, size: int) -> _Task:
    """The class: labels are numbered in their order, unknown ones are ignored."""
    classes, ignored = np.unique(labels[~np.isnan(labels)]), -1
    target = torch.as_tensor(np.where(np.isnan(labels), ignored, np.searchsorted(classes, labels)))
    head = nn.Linear(size, len(classes))

    def loss(net: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
        # a mean over all: cross_entropy's own is 0 / 0 where all labels of a batch are unknown
        return F.cross_entropy(head(F.silu(net(x))), target[rows], ignore_index=ignored, reduction="none").mean()

    return _Task("classes", head, loss)


def _attributes(values: np.ndarray, size: int) -> _Task:
    """All attributes at once, in units of their standard deviation; unknown values are ignored."""
    target = torch.as_tensor(values, dtype=torch.float32)
    known, filled = target.isfinite(), target.nan_to_num(0.0)
    count = known.sum(0).clamp(min=1)
    mean = filled.sum(0) / count
    target = (filled - mean) / (((filled - mean) * known).square().sum(0) / count).sqrt().clamp(min=1e-6)
    head = nn.Linear(size, target.shape[1])

    def loss(net: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
        return ((head(F.silu(net(x))) - target[rows]).square() * known[rows]).mean()

    return _Task("attributes", head, loss)


def _denoising(event_shape: tuple[int, ...], size: int, width: int) -> _Task:
    """The example without the noise that was added to it (Vincent et al. 2008)."""
    # the perceptron first in any case: it draws from the same random numbers as ever
    head: nn.Module = MLP((size,), (), math.prod(event_shape))
    if suits_convolutions(event_shape):
        head = ConvDecoder(size, event_shape, width, event_shape[0])

    def loss(net: nn.Module, x: Tensor, rows: np.ndarray) -> Tensor:
        return F.mse_loss(head(net(x + 0.3 * torch.randn_like(x))).view_as(x), x)

    return _Task("denoising", head, loss)


def reading_of(data: Split | Tensor) -> Codec | None:
    """How floats like these (n, *E) are compared: each column in units of its spread among them; None for pictures."""
    if not data[:1].is_floating_point():
        return None
    reading = Floats()
    reading.fit([data] if isinstance(data, Tensor) else data.parts())
    return reading


def read(stored: Tensor, reading: Codec | None) -> Tensor:
    """Floats by a reading, or as they are without one; so too what is not finite, which every measure names itself."""
    return stored if reading is None or not stored.isfinite().all() else reading.centre(stored)


def centred(stored: Tensor, reading: Codec | None = None) -> Tensor:
    """Pictures in [−1, 1]; floats by a reading, or as they are."""
    return read(stored, reading) if stored.is_floating_point() else stored.float() / 127.5 - 1
