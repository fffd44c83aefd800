"""A report in a real browser: no request, no complaint, accessible, moved by keys, whole without a script and in print."""

import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import DESKTOP, PHONE

sys.path.insert(0, str(Path(__file__).parent.parent))

from report_blocks import BLACK, blocks

from triptych.report import Frames, Page, Section, Verdict, Wipe, write


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with one of every block, long enough to scroll."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    white = BLACK + 255
    moving = Frames(
        [[BLACK, BLACK + 99, white]] * 3, ["VAE", "GAN", "flow"], ["−1", "0", "+1"], [-1, 0, 1], "fade", "", "smile"
    )
    sections = (
        Section("one", "The first claim", ("A paragraph. " * 20,), blocks("words"), Verdict("holds", "It does.", "`make`")),
        Section(
            "two", "The second", (), (moving, Wipe(BLACK, white, ("old", "new"), "squares")), Verdict("recorded", "a", "b")
        ),
        Section("three", "The third", ("Text. " * 50,), (), Verdict("does not hold here", "c", "d")),
    )
    write(Page("A report", "What it is. " * 12, sections, "made here"), path)
    return path.as_uri()


@pytest.fixture
def opening(browser, report):
    """Opens the report as a device would; any request and any complaint fails the test at its end."""
    contexts, wrong = [], []

    def open_page(viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        page = context.new_page()
        contexts.append(context)
        page.on("console", lambda said: wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith((report, "data:")) or wrong.append(asked.url))
        page.goto(report)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_accessible_and_no_wider_than_the_screen(opening, viewport, scheme):
    page = opening(viewport, color_scheme=scheme)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_the_keyboard_moves_frames_and_wipes(opening):
    page = opening()
    slider = page.get_by_label("smile")
    assert slider.get_attribute("aria-valuetext") == "0"
    sources = [page.locator("#two ~ figure .panel img").nth(i).get_attribute("src") for i in range(3)]
    assert len(set(sources)) == 1
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "+1"
    assert page.locator("#two ~ .frames output").inner_text() == "+1"
    assert page.locator("#two ~ .frames .panel img").first.get_attribute("src") != sources[0]
    assert page.locator("#two ~ .frames .panel img").first.get_attribute("alt") == "fade: VAE, +1"
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "−1"
    wipe = page.get_by_label("old | new")
    wipe.focus()
    page.keyboard.press("End")
    assert page.locator("#two ~ .wipe .sides").evaluate("e => e.style.getPropertyValue('--wipe')") == "100%"


def test_a_wipe_follows_the_pointer(opening):
    page = opening()
    sides = page.locator("#two ~ .wipe .sides")
    sides.scroll_into_view_if_needed()
    box = sides.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert page.get_by_label("old | new").input_value() in ("24", "25", "26")


def test_all_is_there_without_javascript_and_in_print(opening):
    page = opening(java_script_enabled=False)
    assert page.locator("#two ~ .frames td img").count() == 9 and page.locator("#two ~ .frames td img").last.is_visible()
    assert page.locator(".slider").first.is_hidden() and page.locator("#two ~ .wipe img").last.is_visible()
    page = opening()
    assert page.locator("#two ~ .frames td img").last.is_hidden()
    page.emulate_media(media="print")
    assert page.locator("#two ~ .frames td img").last.is_visible() and page.get_by_label("smile").is_hidden()
    assert page.locator(".panels").first.is_hidden()


def test_pictures_and_contents_are_where_they_are_said_to_be(opening):
    page = opening(PHONE)
    page.get_by_role("navigation").get_by_text("The third").click()
    assert page.evaluate("location.hash") == "#three"
    assert page.locator("nav .badge").all_inner_texts() == ["✓ holds", "◦ recorded", "✕ does not hold here"]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
