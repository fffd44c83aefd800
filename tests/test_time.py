"""A person's time: steps from minutes, checkpoints by the clock, and what long work says of itself."""

import dataclasses
import io
import itertools
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kill import COMMAND, environment
from test_train import pixels, start, tiny, weights

from triptych import families, progress
from triptych.cli import main
from triptych.data import Split, load
from triptych.errors import TriptychError
from triptych.objectives.player import Player, Span
from triptych.objectives.prior import PriorPlayer
from triptych.pretrained import read_recipe
from triptych.progress import duration, tracked
from triptych.recipes import DCGANModel, FlowObjective, GANObjective, GlowModel, ProgressiveModel, Recipe, Training
from triptych.training import Run, checkpoint, fit, pace, plan, plan_minutes, planning
from triptych.training.pace import FIRST, Pace
from triptych.training.planning import Cost, Kind, Plan, Stretch, stretches


@pytest.fixture(scope="module")
def digits():
    return load("digits").train


def staged(**changes):
    """A VAE, its prior and its sharpening: three stages that differ in speed."""
    plain = families.preset("vae", "mnist")
    model = dataclasses.replace(plain.model, latent_dim=3, hidden=(16,), prior="flow")
    objective = dataclasses.replace(plain.objective, prior_fit="after", sharpen=0.25, sharpen_width=4)
    training = dataclasses.replace(plain.training, batch=16, log_every=50)
    return dataclasses.replace(
        plain, **{"data": "digits", "steps": 400, "model": model, "objective": objective, "training": training, **changes}
    )


def growing(steps=200):
    training = Training(batch=4, log_every=50)
    return Recipe(ProgressiveModel(latent_dim=4, width=4), GANObjective(), data="faces", steps=steps, training=training)


class Clock:
    """A clock that someone else moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


# --- checkpoints by the clock


@settings(deadline=None, max_examples=60)
@given(
    speeds=st.lists(st.floats(0.002, 5.0), min_size=1, max_size=4),  # seconds for a step, in stages of equal length
    most=st.floats(5, 600),
)
def test_checkpoints_come_early_and_then_every_few_minutes(speeds, most):
    clock, written, rounds = Clock(), [0.0], 1000
    pace_ = Pace(most, clock)
    for step in range(1, rounds + 1):
        stage = (step - 1) * len(speeds) // rounds
        edge = -(-(stage + 1) * rounds // len(speeds))
        clock.now += speeds[stage]
        if pace_.due(step, edge):
            written.append(clock.now)
    slack = 2 * (pace._LOOKS + 2 * max(speeds))
    gaps = [min(FIRST * 2 ** min(i, 10), most) for i in range(len(written))]
    for before, after, gap in zip(written, written[1:], gaps, strict=False):
        assert gap - 1e-6 <= after - before <= gap + slack
    assert clock.now - written[-1] <= gaps[-1] + slack


def test_several_processes_agree_by_the_first_ones_clock(monkeypatch):
    """Each asks at the same steps, or it would wait for the others for ever."""
    told, clocks, found = [], [Clock(), Clock()], []
    for rank, speed in enumerate((0.1, 0.37)):
        numbers = iter(list(told))

        def of_first(*own, rank=rank, numbers=numbers):
            if rank == 0:
                told.append(own)
                return list(own)
            return list(next(numbers))

        monkeypatch.setattr(pace, "of_first", of_first)
        pace_, saved = Pace(40.0, clocks[rank]), []
        for step in range(1, 2001):
            clocks[rank].now += speed
            saved += [step] if pace_.due(step) else []
        found.append(saved)
        assert next(numbers, None) is None
    assert found[0] == found[1] and len(found[0]) > 3
    assert len(told) < 250  # a message every other second, not at every step


def test_no_minutes_mean_no_checkpoints_by_the_clock():
    clock = Clock()
    pace_ = Pace(0.0, clock)
    for step in range(1, 50):
        clock.now += 1000
        assert not pace_.due(step)


RECIPES = {
    "vae": lambda: staged(steps=24),
    "glow": lambda: Recipe(
        GlowModel(levels=1, depth=2, width=8), FlowObjective(), data="digits", steps=12,
        training=Training(batch=8, log_every=4),
    ),
    "dcgan": lambda: Recipe(
        DCGANModel(latent_dim=4, width=4, norm="batch"), GANObjective(), data="digits", steps=12,
        training=Training(batch=8, log_every=4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", RECIPES)
def test_what_is_trained_does_not_depend_on_when_checkpoints_are_written(tmp_path, family, digits, monkeypatch):
    found = {}
    for name, minutes in (("never", 0.0), ("always", 1e-9)):
        recipe = RECIPES[family]()
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, save_minutes=minutes))
        run = start(tmp_path / name, recipe, digits)
        fit(run, digits, notice=lambda line: None)
        state = tmp_path / name / f"state/{recipe.steps:09d}/state.safetensors"
        found[name] = state.read_bytes(), weights(tmp_path / name)
        pictures = len(list((tmp_path / name / "samples").iterdir()))
        assert pictures == 1 if name == "never" else pictures > 2
    assert found["never"] == found["always"]


def poisoned(folder, data, minutes, **training):
    """A run whose weights break once, at step 13, so that it is rolled back; the steps at which checkpoints are written."""
    run, once, written = start(folder, tiny(steps=24, log_every=8, save_every=8, save_minutes=minutes), data), [], []

    def watch(played, _logged):
        written.append(run.saved_step)
        if played.step == 13 and not once:
            once.append(1)
            with torch.no_grad():
                run.model.decoder[1].weight.fill_(float("nan"))

    fit(run, data, notice=lambda line: None, watch=watch)
    assert run.progress.rollbacks == 1
    return written


def test_a_rollback_does_not_depend_on_the_clock_either(tmp_path):
    data = pixels()
    never, always = (poisoned(tmp_path / name, data, m) for name, m in (("never", 0.0), ("always", 1e-9)))
    assert set(never) == {0, 8, 16, 24}
    assert always[:15] == [*range(1, 14), 13, 13]  # broken weights are not saved, but the step's own check takes them back
    assert weights(tmp_path / "never") == weights(tmp_path / "always")


def test_the_newest_two_checkpoints_and_the_newest_by_steps_are_kept(tmp_path):
    run = start(tmp_path / "run", tiny(), pixels())
    for step in (1, 2, 5, 6, 7):
        run.progress.step = step
        run.save()
        kept = [int(path.name) for path in sorted((tmp_path / "run/state").iterdir())]
        assert kept == {1: [0, 1], 2: [0, 1, 2], 5: [2, 5], 6: [5, 6], 7: [5, 6, 7]}[step]
    assert checkpoint.newest(tmp_path / "run").progress.step == 7
    assert checkpoint.newest(tmp_path / "run", every=5).progress.step == 5
    checkpoint.drop_after(tmp_path / "run", 5)
    assert checkpoint.newest(tmp_path / "run").progress.step == 5


def test_the_card_says_the_truth_at_every_checkpoint(tmp_path):
    data, folder = pixels(), tmp_path / "run"
    seen = {}

    def watch(played, _logged):
        seen[played.step] = (folder / "README.md").read_text()

    run = start(folder, tiny(), data)
    assert "**not finished**: 0 of 12 steps" in (folder / "README.md").read_text()
    fit(run, data, watch=watch)
    assert "**not finished**: 5 of 12 steps" in seen[7] and "**not finished**: 10 of 12 steps" in seen[11]
    assert "12 steps of 8 examples" in seen[12] and "not finished" not in seen[12]
    Run.resume(folder, steps=20)
    assert "**not finished**: 12 of 20 steps" in (folder / "README.md").read_text()
    run.averaged.save_pretrained(tmp_path / "saved")
    assert "not finished" not in (tmp_path / "saved/README.md").read_text()


def test_a_kill_before_the_first_checkpoint_by_steps_loses_little(tmp_path):
    folder = tmp_path / "run"
    words = ["vae", "--data", "digits", "--steps", "90", "--model.hidden", "16", "--model.latent-dim", "2"]
    clock = ["--training.save-minutes", "0.005", "--training.log-every", "5"]
    whole = ["train", *words, "--training.save-minutes", "0", "--training.log-every", "5", "--out", str(tmp_path / "whole")]
    process = subprocess.Popen(
        [*COMMAND, *words, *clock, "--out", str(folder)], env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list((folder / "state").glob("0*[1-9]*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = checkpoint.newest(folder).progress.step
    assert stopped > 0
    assert main(["train", "--resume", str(folder)]) == 0 and main(whole) == 0
    assert weights(folder) == weights(tmp_path / "whole")


# --- steps from minutes


class Plays(Player):
    """A player of a number of levels, who plays in a span."""

    def __init__(self, span, every=10**9):
        super().__init__()
        self.span, self.every = span, every

    def forward(self, x, step, context=None):
        raise NotImplementedError

    def stage(self, step):
        return step // self.every


@settings(deadline=None, max_examples=60)
@given(
    spans=st.lists(
        st.tuples(st.integers(0, 30), st.none() | st.integers(1, 40), st.integers(3, 50)), min_size=1, max_size=4
    ),
    first=st.integers(0, 20),
    length=st.integers(1, 60),
)
def test_stretches_are_all_rounds_in_order_each_of_one_kind(spans, first, length):
    game = {f"p{i}": Plays(Span(a, b), every) for i, (a, b, every) in enumerate(spans)}
    found = stretches(game, first, first + length)
    assert [step for s in found for step in range(s.first, s.last)] == list(range(first, first + length))
    for stretch in found:
        for step in range(stretch.first, stretch.last):
            playing = {n: p for n, p in game.items() if p.span.holds(step)}
            assert stretch.kind.players == tuple(playing)
            assert stretch.kind.levels == tuple(p.stage(p.span.played(step)) for p in playing.values())
    assert all(a.kind != b.kind for a, b in itertools.pairwise(found))


def made_up(steps, share=1 / 3, fixed=0, fast=0.001, slow=0.01, begin=0.5):
    """A plan of a slow stage and a fast one: a share of the steps, or a fixed number of them."""
    last = fixed or int(steps * share)
    if last >= steps:
        raise TriptychError("prior_steps are some of the run's")
    kinds = Kind(("vae",), (0,)), Kind(("prior",), (0,))
    costs = {kinds[0]: Cost(0.0, slow), kinds[1]: Cost(begin, fast)}
    rounds = (Stretch(kinds[0], 0, steps - last), Stretch(kinds[1], steps - last, steps))
    return Plan(dataclasses.replace(tiny(), steps=steps), rounds, costs, saving=0.0)


@settings(deadline=None, max_examples=40)
@given(
    seconds=st.floats(100, 10_000),
    first=st.integers(100, 100_000),
    share=st.floats(0.01, 0.9),
    fast=st.floats(1e-4, 1e-2),
    slow=st.floats(1e-4, 0.1),
)
def test_a_plan_fills_the_time(seconds, first, share, fast, slow):
    def at(steps):
        return made_up(steps, share, fast=fast, slow=slow)

    found = planning._fitting(seconds, at(first), at)
    longer = at(int(1.03 * found.rounds))
    assert found.seconds <= seconds or found.rounds <= 2
    assert longer.seconds > 0.99 * seconds


def test_stages_of_fixed_length_count_as_they_are():
    found = planning._fitting(60.0, made_up(5000, fixed=3000), lambda steps: made_up(steps, fixed=3000))
    assert found.seconds == pytest.approx(60.0, rel=0.01) and found.stretches[1].last - found.stretches[1].first == 3000
    with pytest.raises(TriptychError, match="prior_steps"):
        planning._fitting(1.0, made_up(5000, fixed=3000), lambda steps: made_up(steps, fixed=3000))


def test_what_is_left_falls_to_nothing_and_the_plan_says_its_stages():
    found = made_up(900)
    left = [found.left(step) for step in range(901)]
    assert left[0] == found.seconds and left[-1] == 0 and left == sorted(left, reverse=True)
    assert left[0] == pytest.approx(600 * 0.01 + 300 * 0.001 + 0.5)
    assert str(found) == "about 7 s for 900 steps: vae 6 s (600), then prior less than a second (300)"


def test_what_only_the_first_beginning_pays_for_is_not_multiplied(digits, monkeypatch):
    """An import, in a stage that begins with many examples and is timed with a few."""
    clock, begun = Clock(), []

    def play(run, data, stream):
        clock.now += 1.0
        run.progress.step += 1

    def begin(self, look):
        look(10_000)
        begun.append(self)
        clock.now += 0.5 if len(begun) > 1 else 60.0
        return {}

    monkeypatch.setattr(planning, "play_round", play)
    monkeypatch.setattr(PriorPlayer, "begin", begin)
    found = plan_minutes(10.0, staged(), lambda recipe: families.build_for(recipe, digits), digits, clock=clock)
    (cost,) = (cost for kind, cost in found.costs.items() if kind.players == ("prior",))
    assert cost.begin == pytest.approx(0.5 * len(digits) / planning._SEEN)


def test_a_slower_stage_is_seen_beforehand(tmp_path, digits, monkeypatch):
    """By a clock that the players move: no first stage tells how long the others are."""
    clock, each = Clock(), {"vae": 1.0, "prior": 0.25, "discriminator": 2.0, "decoder": 1.0}

    def play(run, data, stream):
        clock.now += sum(each[name] for name in run.playing(run.step))
        run.progress.step += 1

    monkeypatch.setattr(planning, "play_round", play)
    make = lambda recipe: families.build_for(recipe, digits)  # noqa: E731
    found = plan_minutes(10.0, staged(), make, digits, clock=clock)
    rates = {kind.players: cost.round for kind, cost in found.costs.items()}
    assert rates == {("vae",): 1.0, ("prior",): 0.25, ("discriminator", "decoder"): 3.0}
    spent = clock.now  # planning is part of the time
    assert found.seconds == pytest.approx(600 - spent, rel=0.01)

    def long(recipe):
        clock.now += 700
        return make(recipe)

    assert plan_minutes(10.0, staged(), long, digits, clock=clock).seconds == pytest.approx(300, rel=0.02)
    assert [s.last - s.first for s in found.stretches] == [
        pytest.approx(found.rounds * share, abs=1) for share in (0.5, 0.25, 0.25)
    ]
    later = plan_minutes(1.0, staged(), make, digits, start=350, clock=clock)
    assert later.stretches[0].first == 350 and later.seconds <= 60


def test_a_growing_network_is_timed_at_each_level(monkeypatch):
    data, clock = load("faces", size=16, n=60).train, Clock()

    def play(run, data, stream):
        level = next(iter(run.players.values())).stage(run.step)
        clock.now += 4.0**level / 64
        run.progress.step += 1

    monkeypatch.setattr(planning, "play_round", play)
    found = plan_minutes(5.0, growing(), lambda recipe: families.build_for(recipe, data), data, clock=clock)
    assert {kind.levels[0]: cost.round for kind, cost in found.costs.items()} == {2: 0.25, 3: 1.0, 4: 4.0}
    assert len(found.stretches) == 3  # the levels share the decided steps, not those of the preset
    sizes = [(s.last - s.first) / found.rounds for s in found.stretches]
    assert sizes == pytest.approx([1 / 5, 2 / 5, 2 / 5], abs=0.03)
    assert 200 < found.seconds <= 300  # of which planning took some


def test_a_run_of_minutes_is_that_of_its_steps_and_resumes_exactly(tmp_path):
    quick = ["--model.hidden", "16", "--model.latent-dim", "2", "--training.save-every", "50"]
    words = ["train", "vae", "--data", "digits", *quick]
    assert main([*words, "--minutes", "0.03", "--out", str(tmp_path / "minutes")]) == 0
    recipe = read_recipe(tmp_path / "minutes")
    assert main([*words, "--steps", str(recipe.steps), "--out", str(tmp_path / "steps")]) == 0
    assert read_recipe(tmp_path / "steps") == recipe
    assert weights(tmp_path / "minutes") == weights(tmp_path / "steps")
    stored, stopped = checkpoint.newest(tmp_path / "minutes"), recipe.steps
    checkpoint.drop_after(tmp_path / "minutes", stopped - 1)  # as if it had been killed
    assert checkpoint.newest(tmp_path / "minutes").progress.step < stored.progress.step
    assert main(["train", "--resume", str(tmp_path / "minutes")]) == 0
    assert weights(tmp_path / "minutes") == weights(tmp_path / "steps")
    assert main(["train", "--resume", str(tmp_path / "minutes"), "--minutes", "0.02"]) == 0
    assert read_recipe(tmp_path / "minutes").steps > stopped


def test_augmentation_is_decided_for_the_steps_that_were_planned(monkeypatch):
    """Few pictures are seen often in a long run, which is slower, so that it is planned anew."""
    data, clock = Split(pixels(16, 3, 8, 8).data), Clock()

    def play(run, data, stream):
        clock.now += 0.02 if run.recipe.differentiable == "diffaug" else 0.01
        run.progress.step += 1

    monkeypatch.setattr(planning, "play_round", play)
    recipe = RECIPES["dcgan"]()
    make = lambda recipe: families.build_for(recipe, data)  # noqa: E731
    short, long = (plan_minutes(minutes, recipe, make, data, clock=clock) for minutes in (0.05, 5.0))
    assert short.recipe.augment == "" and long.recipe.augment == "diffaug"
    assert long.recipe.decided(len(data), data.is_image) == long.recipe
    assert long.seconds == pytest.approx(300, rel=0.05)


def test_what_is_timed_beforehand_leaves_the_model_alone(digits):
    recipe = staged()
    model = families.build_for(recipe, digits)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = plan(recipe, model, digits)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0, equal_nan=True)
    assert found.seconds > 0 and [kind.players for kind in found.costs] == [
        ("vae",), ("prior",), ("discriminator", "decoder")
    ]  # fmt: skip
    assert plan(dataclasses.replace(recipe, steps=99), model, digits) is None


@pytest.mark.parametrize("words", [
    ["vae", "--data", "digits", "--minutes", "2", "--steps", "9"],
    ["vae", "--data", "digits", "--minutes", "0"],
    ["vae", "--data", "digits", "--minutes", "nan"],
])  # fmt: skip
def test_times_that_cannot_be_are_one_line(words, tmp_path, capsys):
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "minutes" in said and said.count("\n") == 1 and not (tmp_path / "run").exists()


# --- what is said meanwhile


@given(st.floats(0, 2.9e7))
def test_times_are_said_about_right(seconds):
    units = {"s": 1, "min": 60, "h": 3600, "days": 86_400}
    parts = re.findall(r"(\d+) (s|min|h|days)", duration(seconds))
    said = sum(int(number) * units[unit] for number, unit in parts)
    assert abs(said - seconds) <= max(1.0, 0.03 * seconds)
    assert len(parts) <= 2


def test_training_says_a_line_now_and_then_without_a_terminal(tmp_path, capsys):
    data, said = pixels(), io.StringIO()
    run = start(tmp_path / "run", tiny(), data)
    with progress.shown(said, every=0):
        fit(run, data, left=lambda step: 60.0 * (12 - step))
    lines = said.getvalue().splitlines()
    assert len(lines) == 11  # the last round ends it
    for step, line in enumerate(lines, 1):
        found = re.fullmatch(rf"training: step {step} of 12, loss [\d.]+  elbo -[\d.]+  kl [\d.e-]+, (.*) left", line)
        assert found and found[1] == duration(60.0 * (12 - step)), line
    rarely = io.StringIO()
    with progress.shown(rarely):  # every 30 seconds
        fit(Run.resume(tmp_path / "run", steps=20), data)
    assert rarely.getvalue() == ""


def test_bars_are_drawn_in_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, clock = Terminal(), Clock()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.time, "monotonic", clock)
    with progress.shown():
        for _ in tracked(range(40), "learning a thing", 40, lambda item: f"loss {item / 10:.2f}"):
            clock.now += 0.4
        list(tracked(range(2), "short work", 2))
    assert "learning a thing" in terminal.getvalue() and "40/40" in terminal.getvalue()
    assert re.search(r"loss \d\.\d\d", terminal.getvalue()) and "short work" not in terminal.getvalue()


def test_long_work_says_how_long_it_took_even_where_it_fails(monkeypatch):
    said, clock = io.StringIO(), Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    with progress.shown(said), pytest.raises(TriptychError):
        for item in tracked(range(100), "encoding", 100):
            clock.now += 2.0
            if item == 30:
                raise TriptychError("broken")
    assert said.getvalue().splitlines() == [
        "encoding: step 15 of 100, 2 min 50 s left", "encoding: step 30 of 100, 2 min 20 s left",
        "encoding: 30 of 100 steps took 62 s",
    ]  # fmt: skip
    assert list(tracked([1, 2], "unheard", 2)) == [1, 2]
