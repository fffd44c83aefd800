"""The tour: the three families and their compositions, trained and measured on the drawn faces, and one report of it all.

settings     how large it is
touring      from an empty folder to a report
schedule     parts, done by processes of one thread; parts: which there are
place        the folder, and what parts share
training     the trainings; rows: what every model is measured by; bound, edits, game, codes, memory: measures of one claim
claims       the sixteen claims; recorded: figures that take longer than a tour
reporting    the page
"""

from triptych.tour.settings import FULL, QUICK, Settings
from triptych.tour.touring import tour

__all__ = ["FULL", "QUICK", "Settings", "tour"]
