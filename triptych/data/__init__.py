"""Data sets by name, folder, file or hub id: `load` gives splits of stored values with their attributes.

>>> from triptych.data import load
>>> digits = load("digits")
>>> digits.train.event_shape, str(digits.train.data.dtype)
((1, 8, 8), 'uint8')
>>> digits.train.kinds["label"]
'class'
"""

from triptych.checking import guard
from triptych.data.batches import Batch, Batches
from triptych.data.names import load
from triptych.data.splits import Skipped, Source, Split, Splits, fixed_subset

__all__ = ["Batch", "Batches", "Skipped", "Source", "Split", "Splits", "fixed_subset", "load"]

guard(__name__, own=("load",))
