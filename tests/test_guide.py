"""Every Python block of the pages and the README runs as it stands, with stand-ins for what a page only names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# fewer faces and steps, and a run of each kind as a command would have left it
BEFORE = '''
import os, torch, triptych
from triptych import codecs, data, edit, figures, gan
load = data.load
triptych.data.load = lambda name, **options: load(name, **options, **({"n": 100} if name == "faces" else {}))
quick, train = {"model": {"latent_dim": 4, "width": 4}, "training": {"batch": 16}}, triptych.train
triptych.train = lambda family, data, **options: train(family, data, **{**options, "steps": 2, **quick})
learn_encoder = edit.learn_encoder
edit.learn_encoder = lambda model, **options: learn_encoder(model, **{**options, "steps": 2, "width": 4})
start = os.getcwd()

def run(name, stand_ins, page):
    """A page in a folder of its own, with the names that its stand-ins made and no others."""
    os.makedirs(folder := os.path.join(start, name))
    os.chdir(folder)
    torch.manual_seed(0)
    names = dict(globals())
    exec(stand_ins, names)
    print(name, flush=True)
    exec(compile(page, name, "exec"), {key: value for key, value in names.items() if key not in globals()})
'''
# by page: files that it says are there, and what it introduces in words
STAND_INS = {
    "README.md": """
triptych.VAE((3, 32, 32), 4).save_pretrained("tour/vae")
given = triptych.VAE((3, 32, 32), 4, context_dim=1)
given.conditions = codecs.Conditions([codecs.Attribute("smiling", "binary")])
given.save_pretrained("runs/given")
encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 32))
pixels = torch.randint(256, (40, 8, 8, 3), dtype=torch.uint8)
figures.save(triptych.data.load("faces").test[:1], "face.jpg")
""",
    "docs/gan.md": """
made = gan.MLPGenerator(4, (3, 32, 32), hidden=(8,))
triptych.GAN((3, 32, 32), 4, generator=made).save_pretrained("runs/dcgan")
""",
    "docs/guide/score.md": """
triptych.VAE((3, 32, 32), 4).save_pretrained("runs/vae")
""",
    "docs/guide/edit.md": """
stored = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
flow = triptych.Glow((3, 32, 32), levels=2, depth=2, width=8)
flow.initialize(flow.codec.encode(stored))
flow.save_pretrained("runs/glow")
figures.save(stored[:1], "face.png")
figures.save(stored[1:2], "photo.jpg")
liked, other = stored[:20], stored[20:]
figures.save(stored[:1], "photo.jpg")
profiles, new_profiles = torch.randn(20, 3), torch.randn(2, 3)
scores = lambda x, p: -(x.mean((1, 2, 3)) - p[:, 0]).square()
ask = lambda stored: stored.float().mean((1, 2, 3))
""",
    "docs/own-photographs.md": """
from pathlib import Path
for name, smile in (("smiling", 1), ("not_smiling", 0)):
    Path("photos", name).mkdir(parents=True)
    for i in range(40):
        figures.save(torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8), f"photos/{name}/{i:05}.png")
""",
}


def _name(page):
    return page.relative_to(ROOT).as_posix()


def _blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


RUN = [page for page in PAGES if _blocks(page)]


def test_what_is_stood_in_for_is_run():
    assert set(STAND_INS) <= {_name(page) for page in RUN} and len(RUN) > 10


@pytest.mark.parametrize("half", [0, 1])
def test_python_blocks_run(half, tmp_path):
    """Each page by itself: as a reader of that page alone would type it. Two processes, which import torch once each."""
    script = tmp_path / "pages.py"
    words = [(_name(page), STAND_INS.get(_name(page), ""), "\n".join(_blocks(page))) for page in RUN[half::2]]
    calls = [f"run({name!r}, {stand_ins!r}, {page!r})" for name, stand_ins, page in words]
    script.write_text("\n".join([BEFORE, *calls]), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
