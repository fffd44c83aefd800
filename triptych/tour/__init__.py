"""The tour: the three families and their compositions, trained and measured on the drawn faces, and one report of it all."""

from triptych.tour.settings import FULL, QUICK, Settings

SETTINGS = {"quick": QUICK, "full": FULL}

__all__ = ["FULL", "QUICK", "SETTINGS", "Settings"]
