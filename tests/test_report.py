"""Pages: what any text, number or picture in them becomes; that nothing is asked of a network; JSON that says the same."""

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from report_blocks import BLACK, blocks

from triptych.errors import TriptychError
from triptych.report import (
    Beside,
    Chart,
    Details,
    Figure,
    Frames,
    Number,
    Page,
    Section,
    Series,
    Strip,
    Table,
    Verdict,
    Wipe,
    write,
)
from triptych.report.axes import Axis
from triptych.report.markup import inline, plain

HOSTILE = '<script>alert(\'1\')</script>"><img src=x onerror="y"> & </style></svg> [a](javascript:x) [b](https://x.org)'
VOID = {"meta", "link", "img", "input", "br"}
TEXTS = st.one_of(st.just(HOSTILE), st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip))


class Read(HTMLParser):
    """The elements of a page, in order, which must be nested as they are opened."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(text, **numbers):
    sections = (
        Section("one", text, (text,), blocks(text, **numbers), Verdict("holds", text, text)),
        Section("two", text, (), (), Verdict("does not hold here", text, text)),
        Section("three", text, (), (), Verdict("recorded", text, text)),
    )
    return Page(text, text, sections, text)


@settings(max_examples=25, deadline=None)
@given(TEXTS)
def test_any_text_stays_text(text):
    said = page(text)
    read = Read(said.html())
    assert len(read.all("script")) == 1 and len(read.all("style")) == 1 and len(read.all("html")) == 1
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on") or name == "style"]
    found = [a["id"] for _, a in read.elements if "id" in a]
    assert len(found) == len(set(found))
    assert {"one", "two", "three"} <= set(found)
    assert all(a.get("href", "#")[0] == "#" or a["href"] == "data:," for _, a in read.elements)
    assert all(a["src"].startswith("data:image/png;base64,") for _, a in read.elements if "src" in a)
    assert all(a["alt"].strip() for a in read.all("img")) and read.all("img")
    assert all({"id", "value"} <= set(a) for a in read.all("input"))
    assert {a["for"] for a in read.all("label")} == {a["id"] for a in read.all("input")}
    json.dumps(said.json())
    assert said.json()["sections"][0]["blocks"][0]["alt"] == text


def test_hostile_text_is_read_as_it_was_written():
    seen = "".join(Read(page(HOSTILE).html()).text)
    assert seen.count(plain(HOSTILE)) >= 15 and "javascript:x" in seen


def test_headings_are_one_of_the_page_and_one_of_each_section():
    read = Read(page("a").html())
    assert [tag for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)] == ["h1", "h2", "h2", "h2"]
    assert read.all("html")[0]["lang"] == "en"


def test_the_policy_allows_the_page_s_own_style_and_script_and_nothing_else():
    html = page("a").html()
    (policy,) = [a["content"] for a in Read(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"@import|url\(|https?:", re.sub(r'src="data:[^"]*"', "", html))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1e9, 1e9).filter(lambda v: v == 0 or abs(v) > 1e-9),
    st.one_of(st.none(), st.floats(1e-9, 1e6)),
    st.integers(1, 10**6),
)
def test_what_a_table_shows_and_what_json_says_are_one_number(value, stderr, n):
    number = Number(value, stderr, n)
    read = Read(Page("t", "", (Section("s", "s", (), (Table(["a", "b"], [["x", number]]),)),)).html())
    cell = Table(["a", "b"], [["x", number]]).data()["rows"][0]["b"]
    assert cell == {"value": value, "n": n} | ({} if stderr is None else {"stderr": stderr})
    shown = float(number.shown.replace(",", "").replace("−", "-"))
    tolerance = 0.51 * 10.0 ** math.floor(math.log10(stderr) - 1 + 1e-9) if stderr else 1e-3 * abs(value)
    assert abs(shown - value) <= max(
        tolerance, 0.051 * abs(value) if "e" in number.shown else 0.5e-6, 0.5 * (abs(value) >= 1e4)
    )
    assert number.shown in "".join(read.text) and f"n = {n:,}" in "".join(read.text)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (Number(3.14159, 0.0231), "3.142 ± 0.023"),
        (Number(math.inf), "∞"),
        (Number(math.nan, math.nan), "not finite"),
        (Number(-0.5, 0.01, unit="nats"), "−0.500 ± 0.010 nats"),
        (Number(1234567.0), "1,234,567"),
        (Number(-0.00002), "−2.0e-05"),
        (Number(2.5, digits=1, unit="MB"), "2.5 MB"),
        (Number(0.0, 0.0), "0 ± 0"),
        (Number(1e30), "1.00e+30"),
        (Number(-1e15, 2.0), "−1.00e+15 ± 2.0"),
    ],
)
def test_a_number_has_as_many_digits_as_its_error_leaves(number, shown):
    assert str(number) == shown


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), log=st.booleans())
@example(values=[-1e308, 1e308], log=False)
@example(values=[-1.7e308, 1.7e308], log=False)
@example(values=[1.7e308], log=False)
@example(values=[1e308], log=True)
@example(values=[1e300, 1e308], log=True)
def test_an_axis_has_room_for_every_value_and_a_few_round_ticks(values, log):
    values = [abs(v) + 1e-3 for v in values] if log else values
    axis = Axis.of(values, 0.0, 100.0, log=log)
    places = [axis.place(v) for v in values]
    assert all(0 <= place <= 100 for place in places)
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [places[i] for i in order] == sorted(places)
    ticks = axis.ticks()
    assert ticks == sorted(set(ticks)) and 1 <= len(ticks) <= 13
    assert all(-1e-6 <= axis.place(tick) <= 100 + 1e-6 for tick in ticks)


def test_a_chart_draws_each_finite_point_with_its_error_and_says_all_of_them():
    chart = Chart([Series("a", [1, 10, 100], [1.0, math.nan, 3.0], [0.1, 0.1, 0.0])], "n", "loss", "falls", x_log=True)
    read = Read(Page("t", "", (Section("s", "s", (), (chart,)),)).html())
    drawn = [a["class"] for a in read.all("path")]
    assert drawn.count("bar-error") == 1 and drawn.count("fill") == 2
    (said,) = chart.data()["series"]
    assert said["x"] == [1.0, 10.0, 100.0] and said["stderr"] == [0.1, 0.1, 0.0]
    assert said["y"] == pytest.approx([1.0, math.nan, 3.0], nan_ok=True)
    assert "not finite" in "".join(read.text)


def test_bars_stand_on_zero_also_below_it():
    html = "".join(
        b.html(lambda stem: stem) for b in [Chart([Series("a", ["x", "y"], [-2.0, 3.0])], "", "", "alt", kind="bar")]
    )
    bars = [{k: float(a[k]) for k in ("y", "height")} for a in Read(html).all("rect")]
    assert bars[0]["y"] == pytest.approx(bars[1]["y"] + bars[1]["height"], abs=0.2)


def test_pictures_come_back_as_they_were(generator):
    picture = torch.randint(0, 256, (3, 16, 12), dtype=torch.uint8, generator=generator)
    (found,) = Read(Figure(picture, "noise").html(lambda stem: stem)).all("img")
    content = base64.b64decode(found["src"].partition(",")[2])
    from io import BytesIO

    import numpy as np

    again = np.array(Image.open(BytesIO(content)))
    assert (torch.from_numpy(again).permute(2, 0, 1) == picture).all()
    assert found["class"] == "crisp" and int(found["width"]) % 12 == 0 and int(found["height"]) % 16 == 0


def test_what_a_page_shows_without_javascript_is_everything():
    """Each frame and both sides of a wipe are in the page itself; sliders are hidden until there is a script."""
    frames = Frames([[BLACK] * 5, [BLACK] * 5], ["a", "b"], list("12345"), range(5), "fade", name="smile")
    read = Read(Beside([frames, Wipe(BLACK, BLACK, ("l", "r"), "pair")]).html(lambda stem: stem))
    assert len(read.all("img")) == 12
    assert all("hidden" in a for a in read.all("p"))


def test_a_link_goes_to_a_section_or_is_refused():
    assert inline("[the table](#table)") == '<a href="#table">the table</a>'
    there = Page("t", "see [it](#s)", (Section("s", "S"),))
    assert '<a href="#s">it</a>' in there.html()
    inside = Section("s", "S", (), (Details("d", [Table(["a"], [["[x](#nowhere)"]])]),))
    with pytest.raises(TriptychError, match="nowhere"):
        Page("t", "", (inside,)).html()


def test_a_page_is_written_with_its_figures_beside_it(tmp_path):
    said = page("a", numbers=(math.inf, 0.1))
    write(said, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == said.html()
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["sections"][0]["blocks"][4]["rows"][0]["a 2"]["value"] is None  # JSON has no infinity
    with pytest.raises(TriptychError, match=r"\.html"):
        write(said, tmp_path / "report.txt")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Figure(BLACK, " "),
        lambda: Section("Not An Anchor", "t"),
        lambda: Page("t", "", (Section("a", "t"), Section("a", "t"))),
        lambda: Page("t", "", (Section("top", "t"),)),
        lambda: Page("t", "", (Section("contents", "t"),)),
        lambda: Verdict("perhaps", "s", "h"),
        lambda: Strip([[BLACK], [BLACK, BLACK]], ["a", "b"], [], "alt"),
        lambda: Strip([[BLACK]], ["a", "b"], [], "alt"),
        lambda: Frames([[BLACK]], ["a"], ["1"], [1.0], "alt"),
        lambda: Frames([[BLACK, BLACK]], ["a"], ["1", "2"], [1.0, 2.0], "alt", start=2),
        lambda: Table(["a", "b"], [["x"]]),
        lambda: Table(["a", "a"], []),
        lambda: Series("a", [1, 2], [1.0]),
        lambda: Series("a", [1], ["x"]),
        lambda: Chart([], "x", "y", "alt"),
        lambda: Chart([Series("a", ["b"], [1.0])], "x", "y", "alt", kind="bar", y_log=True),
        lambda: Number("3"),
        lambda: Figure(b"not a picture", "alt").html(lambda stem: stem),
        lambda: Figure(torch.zeros(2, 8, 8, dtype=torch.uint8), "alt").html(lambda stem: stem),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(make):
    with pytest.raises(TriptychError) as error:
        make()
    assert "\n" not in str(error.value)
