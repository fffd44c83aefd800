"""One of each block of a report, for tests of pages here and in a browser."""

import math

import torch
from PIL import Image

from triptych.figures import encoded
from triptych.report import (
    Beside,
    Chart,
    Details,
    Figure,
    Frames,
    Number,
    Points,
    Series,
    Strip,
    Table,
    Text,
    Wipe,
)

BLACK = torch.zeros(3, 8, 8, dtype=torch.uint8)


def blocks(text, numbers=(1.5, 0.2)):
    """One of each, with a text wherever one may stand."""
    value, stderr = numbers
    return (
        Figure(BLACK, text, text),
        Strip([[BLACK, Image.new("RGB", (4, 4))]], [text], [text, text], text, text),
        Frames([[BLACK, BLACK]], [text], [text, "b"], [0.0, 1.0], text, text, text),
        Wipe(BLACK, encoded(Image.new("L", (8, 8))), (text, text), text, text),
        Table([text, f"{text} 2"], [[text, Number(value, stderr, 3, text)], ["b", text]], text, text),
        Beside([Chart([Series(text, ["a", text], [value, math.nan], [stderr, stderr])], text, text, text, text, "bar")]),
        Details(text, [Text(text), Points((text,))]),
        Chart(
            [Series(text, [1.0, 2.0], [value, 2.0], [stderr, 0.1], recorded=True)], text, text, text, lines=((text, 1.0),)
        ),
    )
