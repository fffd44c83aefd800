"""The models that come with the package: small, whole, quick, and never written to."""

import fnmatch
import importlib.resources
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

import triptych
from triptych import edit, folders, onboard, storage
from triptych.bijections import Whiten
from triptych.bijections.whiten import _nearest_orthonormal
from triptych.capabilities import HasDensity
from triptych.cli import main
from triptych.cli.serving import usual_sources
from triptych.data import load
from triptych.errors import TriptychError
from triptych.flow import Flow
from triptych.pretrained import local_folder
from triptych.studio.registry import Registry
from triptych.studio.served import Served

NAMES = onboard.names()
MOST = 16 * 2**20  # bytes of all together
SECONDS = 2.0  # of one core, for what takes a tenth on an idle machine


def files():
    """Every file of every model on board, as the installed package has it."""
    root = importlib.resources.files("triptych.onboard")
    return [path for name in NAMES for path in Path(str(root / name)).rglob("*")]


@pytest.fixture(scope="module")
def faces():
    return {size: load("faces", size=size, n=200).test for size in (32, 64)}


def quick(work):
    start = time.process_time()
    result = work()
    assert time.process_time() - start < SECONDS
    return result


def test_they_are_small_together_and_the_wheel_takes_every_file():
    assert {"faces-vae"} <= set(NAMES)
    assert sum(path.stat().st_size for path in files()) <= MOST
    patterns = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["triptych"]
    package = Path(triptych.__file__).parent
    for path in files():
        assert any(fnmatch.fnmatch(str(path.relative_to(package)), pattern) for pattern in patterns), path


def test_loading_does_not_import_torchs_compiler():
    """Laying out weights without memory does, by default, and it takes longer than all the rest."""
    code = "import sys, triptych; [triptych.load(n) for n in sys.argv[1:]]; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, *NAMES], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_samples_encodes_and_edits_quickly_and_says_where_it_comes_from(name, faces):
    model = quick(lambda: triptych.load(name))
    assert all(tensor.dtype != torch.float16 for tensor in model.state_dict().values())
    x = model.codec.centre(faces[model.event_shape[-1]][:4])
    assert quick(lambda: model.sample(4)).isfinite().all()
    back = quick(lambda: model.decode(model.encode(x)))
    directions = edit.Directions.load(name)
    assert {"smile", "glasses", "beard"} <= set(directions)
    smiling = quick(lambda: edit.apply(model, x, {"smile": 1.5}, directions))
    assert (smiling - back).abs().amax((1, 2, 3)).min() > 0.02  # every face has changed
    if isinstance(model, HasDensity):
        assert model.log_prob(x).isfinite().all()
    card = (onboard.folder_of(name) / "README.md").read_text()
    assert "nobody's photographs" in card and "Apache-2.0" in card and "triptych train" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_flow_comes_back_exactly_although_its_matrices_were_rounded(name, faces):
    model = triptych.load(name)
    if not isinstance(model, Flow):
        pytest.skip("not a flow")
    stored = faces[32][:]
    x = model.codec.centre(stored)
    back = model.decode(model.encode(x))
    assert (back - x).abs().max() < 1e-4
    assert torch.equal(model.codec.decode(back), stored)


@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_a_whitening_of_rounded_components_is_exact_once_it_is_straightened(kind, rank):
    torch.manual_seed(0)
    x = torch.randn(200, 12) @ torch.randn(12, 12)
    layer = Whiten(12, kind, rank)
    before = layer.initialize(x)
    for name in ("components", "rotation"):
        getattr(layer, name).copy_(getattr(layer, name).half().float())
    rough = (layer.inverse(layer(x)[0]) - x).abs().max()
    layer.straighten()
    z, ladj = layer(x)
    torch.testing.assert_close(layer.inverse(z), x, atol=2e-5, rtol=1e-5)
    assert rough > 2e-4
    torch.testing.assert_close(z, before, atol=0.05, rtol=0.01)
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0][0], x[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], ladj[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("rounding", [1e-9, 1e-4, 1e-2, 1.0])
def test_the_nearest_orthonormal_matrix_is_the_polar_factor(rounding):
    from scipy.linalg import polar

    torch.manual_seed(0)
    exact = torch.linalg.qr(torch.randn(40, 12, dtype=torch.float64))[0]
    rounded = exact + rounding * torch.randn(40, 12, dtype=torch.float64) / 7
    torch.testing.assert_close(
        _nearest_orthonormal(rounded), torch.from_numpy(polar(rounded.numpy())[0]), atol=1e-12, rtol=0
    )


def test_a_whitening_that_saw_no_data_stays_as_it_is():
    layer = Whiten(4, rank=2)
    layer.straighten()
    assert layer.components.eq(0).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_read_as_float32(tmp_path, kind):
    model = triptych.VAE((1, 8, 8), 3).eval()
    model.save_pretrained(tmp_path / "run")
    file = tmp_path / "run/model.safetensors"
    storage.write_tensors(file, {k: v.to(kind) if v.ndim > 1 else v for k, v in storage.read_tensors(file).items()})
    read = triptych.load(tmp_path / "run").state_dict()
    for key, tensor in model.state_dict().items():
        assert read[key].dtype == tensor.dtype
        torch.testing.assert_close(read[key], tensor, atol=1e-3, rtol=1e-2)


def test_nothing_is_written_to_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = onboard.folder_of("faces-vae")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(TriptychError, match=r"faces-vae is on board, where nothing is written: copy the folder"):
        edit.Directions.load("faces-vae").save(folder)
    with pytest.raises(TriptychError, match="on board"), folders.claimed(folder):
        pass
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(TriptychError, match="on board"):
        storage.write_bytes(tmp_path / "link/new.txt", b"")
    for words in (["directions", "faces-vae"], ["sample", "faces-vae", "--out", str(folder / "x.png")]):
        assert main(words) == 2
        assert "is on board, where nothing is written" in capsys.readouterr().err
    assert before == sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


def test_what_lies_here_under_their_name_is_meant_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert local_folder("faces-vae") == onboard.folder_of("faces-vae")
    own = triptych.VAE((1, 8, 8), 3)
    own.save_pretrained("faces-vae")
    assert local_folder("faces-vae") == Path("faces-vae")
    assert triptych.load("faces-vae").event_shape == (1, 8, 8)
    assert len(edit.Directions.load(onboard.folder_of("faces-vae"))) > 1
    with pytest.raises(TriptychError, match="no directions yet"):
        edit.Directions.load("faces-vae")


@pytest.mark.parametrize("name", ["faces-vea", "", "..", "faces-vae/", "a" * 5000])
def test_a_name_that_is_not_theirs_lists_them(name):
    assert onboard.folder_of(name) is None
    if name not in ("", ".."):
        with pytest.raises(TriptychError, match=r"no model of that name on board \(.*faces-vae"):
            triptych.load(name)


def test_commands_take_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in (
        "sample faces-vae --n 3 --out faces/",
        "edit faces-vae faces/000000.png --set smile=1.5 --out smile.png",
        "mix faces-vae faces/000001.png faces/000002.png --out mix.png",
    ):
        assert main(line.split()) == 0
    assert {"smile.png", "mix.png"} <= {path.name for path in tmp_path.iterdir()}


def test_the_studio_has_them_where_no_run_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = Registry(usual_sources())
    try:
        assert sorted(registry.folders) == NAMES
        assert all(isinstance(registry.model(name), Served) and registry.model(name).directions for name in NAMES)
    finally:
        registry.close()
