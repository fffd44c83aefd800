"""Reports: a page as data (`page`), made of pictures, strips, sliders and wipes (`blocks`), tables of measured numbers
(`tables`) and charts (`charts`), and written as one HTML file that asks the network for nothing, with its figures as JSON
beside it.

Text is plain, or has **bold**, `code` and [links](#anchor) inside the page; everything else in it is escaped.
"""

from triptych.checking import guard
from triptych.report.blocks import Beside, Block, Details, Figure, Frames, Points, Strip, Text, Wipe
from triptych.report.charts import Chart, Series
from triptych.report.numbers import Number
from triptych.report.page import Page, Section, Verdict, write
from triptych.report.tables import Table

__all__ = [
    "Beside",
    "Block",
    "Chart",
    "Details",
    "Figure",
    "Frames",
    "Number",
    "Page",
    "Points",
    "Section",
    "Series",
    "Strip",
    "Table",
    "Text",
    "Verdict",
    "Wipe",
    "write",
]

guard(__name__, own=("Number", "Series"))  # what was measured may be infinite, or not known
