"""The documentation, opened from a disk: nothing is loaded from elsewhere, nothing complains, the search finds."""

import subprocess
import sys

import pytest
from conftest import DESKTOP, PHONE, ROOT

PAGES = ("index", "flow", "results", "guide/edit", "api/flow")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("viewport, scheme", [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
def test_pages_work_from_a_disk(site, browser, viewport, scheme):
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or wrong.append(asked.url))
    for name in PAGES:
        page.goto(f"file://{site}/{name}.html")
        assert page.inner_text("h1")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), name
    context.close()
    assert wrong == []


def test_the_search_finds_from_a_disk(site, browser):
    page = browser.new_page()
    page.goto(f"file://{site}/index.html")
    page.click(".md-search__input")
    page.keyboard.type("Fréchet")
    page.wait_for_selector(".md-search-result__item", state="attached", timeout=20_000)
    page.close()
