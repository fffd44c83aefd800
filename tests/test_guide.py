"""Every Python block of the guide and the README runs as it stands, in order, with stand-ins for what it only names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# fewer faces, runs as the commands would have left them, and the names that a text introduces in words
BEFORE = """
import functools, torch, triptych
from triptych import codecs, edit, figures, gan
triptych.data.load = functools.partial(triptych.data.load, n=100)
quick, train_ = {"model": {"latent_dim": 4, "width": 4}, "training": {"batch": 16}}, triptych.train
triptych.train = lambda family, data, **options: train_(family, data, **{**options, "steps": 2, **quick})
torch.manual_seed(0)
"""
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
    "docs/guide.md": """
gan = triptych.GAN((3, 32, 32), 4, generator=gan.MLPGenerator(4, (3, 32, 32), hidden=(8,)))
stored = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
encoder = edit.learn_encoder(gan, data=stored, steps=2, width=4)
flow = triptych.Glow((3, 32, 32), levels=2, depth=2, width=8)
flow.initialize(flow.codec.encode(stored))
figures.save(stored[:1], "face.png")
figures.save(stored[:1], "photo.jpg")
profiles, new_profiles = torch.randn(20, 3), torch.randn(2, 3)
scores = lambda x, p: -(x.mean((1, 2, 3)) - p[:, 0]).square()
ask = lambda stored: stored.float().mean((1, 2, 3))
directions = edit.learn_directions(edit.Inverting(gan, encoder), stored, {"smile": torch.rand(40)})
""",
}


@pytest.mark.parametrize("name", STAND_INS)
def test_python_blocks_run(name, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    script = tmp_path / "blocks.py"
    script.write_text("\n".join([BEFORE, STAND_INS[name], *blocks]), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
