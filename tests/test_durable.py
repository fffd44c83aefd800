"""A kill at any write leaves the old run or the new one, and one process at a time writes a run."""

import os
import shutil
import sys

import pytest
import torch
from test_state import content
from test_train import pixels, start, tiny

import triptych
from triptych import figures, storage
from triptych.cli import main
from triptych.edit import Direction, Directions
from triptych.errors import TriptychError
from triptych.training import Run, checkpoint
from triptych.training import loop as train

EVENTS = ("rename", "replace", "rmdir")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("old") / "run", pixels()
    train.fit(start(folder, tiny(), data), data)
    return folder


def killed(moment, act):
    """Whether `act`, in a process of its own, was killed before its write event number `moment`; no `finally` runs."""
    child = os.fork()
    if child == 0:
        count = [0]

        def counted(function):
            def call(*arguments, **options):
                count[0] += 1
                if count[0] > moment:
                    os._exit(9)
                return function(*arguments, **options)

            return call

        for name in EVENTS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            act()
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def at_every_write(tmp_path, prepare, act):
    """Yields a fresh folder after each kill, and once more after none."""
    for moment in range(1000):
        folder = tmp_path / f"at{moment}" / "run"
        folder.parent.mkdir()
        prepare(folder)
        died = killed(moment, lambda folder=folder: act(folder))
        yield folder
        if not died:
            assert moment > 1
            return


def test_an_overwrite_leaves_the_old_run_or_the_new(old, tmp_path, capsys):
    data, other = pixels(), tiny(steps=7)
    seen = set()
    for folder in at_every_write(
        tmp_path, lambda f: shutil.copytree(old, f), lambda f: start(f, other, data, overwrite=True)
    ):
        assert main(["list", str(folder.parent)]) == 0
        assert "vae" in capsys.readouterr().out
        assert triptych.load(folder).latent_dim == 2
        resumed = Run.resume(folder)
        seen.add((resumed.step, resumed.recipe.steps))
        if len(list(folder.parent.iterdir())) > 1:  # what is left is in nobody's way
            start(folder, other, data, overwrite=True)
        assert [p.name for p in folder.parent.iterdir()] == ["run"]
    assert seen == {(12, 12), (0, 7)}


def test_a_start_leaves_no_trap(tmp_path):
    data = pixels()
    for folder in at_every_write(tmp_path, lambda f: None, lambda f: start(f, tiny(), data)):
        run = start(folder, tiny(), data) if not folder.exists() else Run.resume(folder)
        assert run.step == 0 and [p.name for p in folder.parent.iterdir()] == ["run"]


def test_a_checkpoint_of_the_same_step_replaces_the_only_one(old, tmp_path):
    """As a rollback writes it."""

    def prepare(folder):
        shutil.copytree(old, folder)
        shutil.rmtree(folder / "state" / "000000010")

    def again(folder):
        run = Run.resume(folder)
        run.progress.rollbacks, run.saved_step = 1, None
        run.save()

    seen = set()
    for folder in at_every_write(tmp_path, prepare, again):
        resumed = Run.resume(folder)
        seen.add((resumed.step, resumed.progress.rollbacks))
        assert sorted(p.name for p in (folder / "state").iterdir()) == ["000000012"]
    assert seen == {(12, 0), (12, 1)}


def test_a_checkpoint_that_is_given_up_is_whole_or_gone(old, tmp_path):
    seen = set()
    for folder in at_every_write(tmp_path, lambda f: shutil.copytree(old, f), lambda f: checkpoint.drop_after(f, -1)):
        left = [path for path in (folder / "state").iterdir() if path.name.isdigit()]
        assert all({file.name for file in path.iterdir()} == {"state.json", "state.safetensors"} for path in left)
        seen.add(len(left))
    assert max(seen) > 0 == min(seen)


def found(value):
    vector = torch.full((2,), float(value))
    return Directions(smile=Direction("smile", "continuous", vector, offset=0.0, scale=float(value), step=vector))


def test_directions_are_the_old_pair_or_the_new(old, tmp_path):
    def prepare(folder):
        shutil.copytree(old, folder)
        found(1).save(folder)

    seen = set()
    for folder in at_every_write(tmp_path, prepare, lambda f: found(2).save(f)):
        smile = Directions.load(folder)["smile"]
        assert smile.normal.tolist() == [smile.scale] * 2
        seen.add(smile.scale)
        found(3).save(folder)
        assert len(list(folder.glob("directions*"))) == 2
        assert not list(folder.glob(".*triptych*"))
    assert seen == {1.0, 2.0}


def test_a_checkpoint_without_its_card_and_picture_gets_them_on_resume(old, tmp_path):
    run = shutil.copytree(old, tmp_path / "run")
    (run / "README.md").unlink()
    (run / "samples" / "step-000000012.png").unlink()
    Run.resume(run)
    kept = {name: content(folder)[name] for folder in (old,) for name in content(folder)}
    assert content(run) == kept


# --- one writer


def test_a_second_process_is_told_and_changes_nothing(old, tmp_path, capfd):
    run = shutil.copytree(old, tmp_path / "run")
    first = Run.resume(run)
    before = content(run)
    for words in (["--resume", run], ["vae", "--data", "digits", "--steps", "2", "--out", run, "--overwrite"]):
        child = os.fork()
        if child == 0:
            os._exit(main(["train", *map(str, words)]))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert capfd.readouterr().err.strip().endswith("wait until it is done, or give another folder")
        assert content(run) == before
        assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert triptych.load(run).latent_dim == 2  # readers are not held up
    assert first.claim.held


def test_a_run_in_training_is_not_written_by_another_thread(old, tmp_path):
    run, data, refused = shutil.copytree(old, tmp_path / "run"), pixels(), []

    def watch(step, _numbers):
        for act in (lambda: Run.resume(run), lambda: start(run, tiny(), data, overwrite=True)):
            with pytest.raises(TriptychError, match="is being trained by this process"):
                act()
            refused.append(step.step)

    train.fit(Run.resume(run, steps=14), data, watch=watch)
    assert refused == [13, 13, 14, 14]
    assert Run.resume(run).step == 14


def test_two_that_start_one_run_leave_one_whole(tmp_path):
    """Both found nothing there; whoever comes second changes nothing."""
    data, folder = pixels(), tmp_path / "run"
    write = storage.write_folder

    def first_comes_another(path, **options):
        storage.write_folder = write
        start(folder, tiny(steps=7), data)
        return write(path, **options)

    storage.write_folder = first_comes_another
    with pytest.raises(TriptychError, match="cannot write"):
        start(folder, tiny(), data)
    assert Run.resume(folder).recipe.steps == 7


def test_readers_need_no_lock(old, tmp_path):
    run = shutil.copytree(old, tmp_path / "run")
    for path in (*run.rglob("*"), run):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert triptych.load(run).latent_dim == 2
        assert main(["sample", str(run), "--n", "2", "--out", str(tmp_path / "x.npy")]) == 0
    finally:
        for path in (run, *run.rglob("*")):
            path.chmod(0o755)


def test_a_run_cannot_become_shorter_than_it_is(old, tmp_path):
    run = shutil.copytree(old, tmp_path / "run")
    with pytest.raises(TriptychError, match="at step 12 already"):
        Run.resume(run, steps=11)
    assert content(run) == content(old)
    assert Run.resume(run, steps=12).step == 12


# --- what cannot be used is said


VERBS = {
    "sample": ["--n", "2", "--out", "x.npy"],
    "edit": ["x.png", "--set", "smile=1", "--out", "y.png"],
    "mix": ["x.png", "x.png", "--out", "y.png"],
    "evaluate": [],
    "score": ["digits", "--out", "x.csv"],
    "directions": ["--unsupervised", "1"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_weights_that_are_not_finite(old, tmp_path, monkeypatch, capsys, verb):
    run = shutil.copytree(old, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    figures.save(torch.zeros(1, 1, 6, 6, dtype=torch.uint8), tmp_path / "x.png")
    broken = storage.read_tensors(run / "model.safetensors")
    broken[max(broken)].fill_(float("nan"))
    storage.write_tensors(run / "model.safetensors", broken)
    assert main([verb, str(run), *VERBS[verb]]) == 2
    said = capsys.readouterr().err
    assert f"the model's weights ({max(broken)}) are not finite" in said and len(said.splitlines()) == 1
    Run.resume(run)  # the remedy
    assert main(["sample", str(run), *VERBS["sample"]]) == 0


def test_memory_that_is_not_there_is_one_line(old, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(triptych.VAE, "sample", lambda *_, **__: torch.empty(10**15))
    assert main(["sample", str(old), "--n", "2", "--out", str(tmp_path / "x.npy")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("triptych: not enough memory: lower") and len(said.splitlines()) == 1
