"""A studio in a process of its own, and the distribution's Chromium that opens it; `make test-browser` installs both."""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from studio_runs import save_all

import triptych
from triptych import edit
from triptych.edit.alignment import DRAWN

ROOT = Path(__file__).parent.parent.parent
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


def serving(sources, *words):
    """A studio, and its address."""
    command = [sys.executable, "-m", "triptych", "studio", *map(str, sources), "--port", "0", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"studio: (http://\S+/)", line):
            threading.Thread(target=lambda: said.extend(process.stderr), daemon=True).start()
            return process, found[1], said
    raise AssertionError("".join(said))


def stopped(process):
    process.terminate()
    process.wait(120)  # closing is a second of work, which a shared machine may stretch


def save_default(out, side):
    """A VAE as `triptych train vae` has it for pictures of a size, untrained: it costs what a trained one does."""
    torch.manual_seed(0)
    model = triptych.VAE((3, side, side), 32).eval()
    model.save_pretrained(out)
    stored = torch.randint(0, 256, (60, 3, side, side), dtype=torch.uint8)
    edit.unsupervised_directions(model, stored, 4).save(out)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    root = save_all(tmp_path_factory.mktemp("runs"))
    DRAWN.save(root / "vae")
    for side in (32, 64):
        save_default(root / f"vae{side}", side)
    return root


@pytest.fixture(scope="session")
def address(runs):
    process, url, said = serving([runs])
    yield url
    stopped(process)
    assert not [line for line in said if "Traceback" in line], "".join(said)


@pytest.fixture(scope="session")
def browser():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "no chromium: make test-browser installs the distribution's"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class Watch:
    """What a page must not do: complain, fail, or ask another machine for anything."""

    def __init__(self, page, url):
        self.wrong = []
        page.on("console", lambda said: said.type in ("error", "warning") and self.wrong.append(said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        local = (url, "data:", "blob:" + url)
        page.on("request", lambda asked: asked.url.startswith(local) or self.wrong.append(asked.url))


@pytest.fixture
def opening(browser, address):
    """Opens the studio as a device would; whatever goes wrong in the page fails the test at its end."""
    contexts, watches = [], []

    def open_page(viewport=DESKTOP, path="", **options):
        context = browser.new_context(viewport=viewport, accept_downloads=True, **options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        contexts.append(context)
        watches.append(Watch(page, address))
        page.goto(address + path)
        page.wait_for_selector("body.ready")
        page.watch = watches[-1]
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [wrong for watch in watches for wrong in watch.wrong]
