"""Stored values <-> model coordinates: a class for each way of reading. The one place that knows a range.

    stored  uint8 (B, *E), or float32 for data that are not pictures
    x       float32 (B, *E), images in [0, 1]

Class         x of a pixel v with b bits                      for
Dequantised   (v + u) / 2^b, u ~ U[0, 1)                      densities (Gaussian likelihood, flows)
BinCentres    (v + ½) / 2^b                                   masses over bins (discretised logistic), GANs
Binarised     1 with probability v / 255, else 0, afresh      Bernoulli
Floats        (v − mean) / scale, or v where that is near     vectors, sequences
"""

from triptych.checking import guard
from triptych.codecs.conditions import Attribute, Conditions
from triptych.codecs.floats import Floats
from triptych.codecs.pixels import Binarised, BinCentres, Dequantised

__all__ = ["Attribute", "BinCentres", "Binarised", "Conditions", "Dequantised", "Floats"]

guard(__name__)
