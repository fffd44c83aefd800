"""Growth: what a level adds fades in from nothing, schedules follow the pictures shown, and a fade can be resumed."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from resuming import interrupted_and_resumed
from test_gan_training import labelled, pixels, start, tiny

import triptych
from triptych import families
from triptych.data import Split
from triptych.errors import TriptychError
from triptych.gan.layers import Equalised
from triptych.gan.progressive import GrowingDiscriminator, GrowingGenerator, Stage, stage_at
from triptych.pretrained import initial_model
from triptych.recipes import ProgressiveModel
from triptych.training import Run
from triptych.training import loop as train

GROWING = ProgressiveModel(latent_dim=3, width=4, images=16)


def growing(steps, given="", **objective):
    recipe = tiny(GROWING, steps, given=given, game="wgan", penalty="gp", gamma=10.0, drift=1e-3, **objective)
    return dataclasses.replace(recipe, data="faces", size=16)


def test_the_schedule_fades_each_level_in_and_then_trains_it_whole():
    stages = [stage_at(shown, 5, 10) for shown in range(200)]
    assert stages[:10] == [Stage(2, 1.0)] * 10 and stages[-1] == Stage(5, 1.0)
    assert [s.level for s in stages] == sorted(s.level for s in stages)
    for level in (3, 4, 5):
        alphas = [s.alpha for s in stages if s.level == level]
        assert alphas[:10] == pytest.approx([i / 10 for i in range(10)]) and set(alphas[10:]) == {1.0}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [3, 4])
def test_a_new_level_begins_as_the_old_one(channels, level, generator):
    """At alpha 0 the generator repeats what it drew before, and the discriminator judges the halved picture as before."""
    widths = [6, 5, 4]
    g, d = GrowingGenerator(3, channels, widths), GrowingDiscriminator(channels, widths)
    z, side = torch.randn(4, 3, generator=generator), 2**level
    before = F.interpolate(g(z, Stage(level - 1, 1.0)), scale_factor=2.0)
    torch.testing.assert_close(g(z, Stage(level, 0.0)), before)
    x = torch.randn(4, channels, side, side, generator=generator)
    torch.testing.assert_close(d(x, Stage(level, 0.0)), d(F.avg_pool2d(x, 2), Stage(level - 1, 1.0)))
    assert not torch.allclose(g(z, Stage(level, 1.0)), before)


def test_layers_start_with_outputs_of_the_size_of_their_inputs(generator):
    torch.manual_seed(0)
    h = torch.randn(16, 32, 12, 12, generator=generator)
    assert Equalised(32, 64, (3, 3), gain=1.0)(h)[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.15)
    assert Equalised(32, 512, gain=1.0)(h[:, :, 0, 0]).std().item() == pytest.approx(1, abs=0.15)


def test_reals_fade_as_samples_do(generator):
    model = triptych.ProgressiveGAN((1, 8, 8), 3, width=4, images=10)
    x = torch.rand(2, 1, 8, 8, generator=generator)
    model.grow(0)
    torch.testing.assert_close(model.reals(x), F.avg_pool2d(x, 2))
    model.grow(10)
    torch.testing.assert_close(model.reals(x), F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0))
    model.grow(20)
    torch.testing.assert_close(model.reals(x), x)
    z = torch.randn(3, 3, generator=generator)
    for shown in (0, 10, 14, 20):
        model.grow(shown)
        assert model.draw(z).shape[1:] == model.reals(x).shape[1:] and model.decode(z).shape == (3, 1, 8, 8)
        assert model.logits(model.draw(z)).shape == (3,) and model.logits(x).shape == (2,)


@pytest.mark.parametrize("broken_at", [2, 3, 5, 7])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_resumed_in_the_middle_of_a_fade_equals_uninterrupted_to_the_bit(tmp_path, broken_at, optimizer):
    data, recipe = pixels(40, 3, 16, 16), growing(8)
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, optimizer=optimizer, save_every=1))
    whole = start(tmp_path / "whole", recipe, data)
    train.fit(whole, data)
    broken = start(tmp_path / "broken", recipe, data)
    interrupted_and_resumed(broken, data, broken_at)
    for name in ("model.safetensors", "state/000000008/state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name
    loaded = triptych.load(tmp_path / "whole")
    assert loaded.stage_now == whole.model.stage_now == Stage(4, 0.5)
    assert loaded.growth() == {"side": 16, "full_side": 16, "alpha": 0.5}


def test_a_conditional_model_grows_and_resumes_to_the_bit(tmp_path):
    data, recipe = labelled(40, 3, 16, 16), growing(8, given="kind")
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, save_every=1))
    whole = start(tmp_path / "whole", recipe, data)
    train.fit(whole, data)
    told = [m.maps.weight for m in whole.model.generator.modulations]
    assert len(told) == 4 and all(weight.any() for weight in told) and whole.model.discriminator.projection.map.weight.any()
    interrupted_and_resumed(start(tmp_path / "broken", recipe, data), data, 5)
    for name in ("model.safetensors", "state/000000008/state.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name


def test_only_what_has_grown_is_trained_and_optimisers_begin_anew(tmp_path):
    data: Split = pixels(40, 3, 16, 16)
    run = start(tmp_path / "run", growing(8), data)
    moments = []
    for step in train.train(run, data):
        level = run.model.stage(8 * (step.step - 1))
        ungrown = run.model.generator.blocks[level - 1 :]
        assert all(p.grad is None for p in ungrown.parameters())
        optimizer = run.optimizers["generator"]
        moments.append(int(max(state["step"] for state in optimizer.state.values())))
    assert moments == [1, 2, 1, 2, 3, 4, 1, 2]  # 4×4 for two rounds, 8×8 for four, then 16×16


def test_only_what_grows_pays_for_a_search_of_unused_parameters(tmp_path):
    """By several processes, at every step: a layer that is not reached, or has faded out, has no gradient to wait for."""
    data = pixels(8, 3, 16, 16)
    grown, fixed = (start(tmp_path / name, recipe, data) for name, recipe in (("a", growing(2)), ("b", tiny("dcgan"))))
    assert grown.accelerator.ddp_handler.find_unused_parameters and fixed.accelerator.ddp_handler is None


@pytest.mark.parametrize("shape", [(3, 12, 12), (3, 2, 2), (3, 8, 16), (1, 7, 7)])
def test_sizes_that_are_no_power_of_two_are_refused(shape):
    with pytest.raises(TriptychError, match="power of two from 4"):
        triptych.ProgressiveGAN(shape)


def test_vectors_are_refused():
    with pytest.raises(TriptychError, match=r"power of two|8-bit pictures"):
        triptych.ProgressiveGAN((16,))


def test_the_smallest_size_and_whole_networks_work(generator):
    for model in (
        triptych.ProgressiveGAN((2, 4, 4), 3, width=4, images=5),
        triptych.ProgressiveGAN((2, 8, 8), 3, 4, images=0),
    ):
        model.grow(1000)
        x = model.sample(2, generator=generator)
        assert x.shape == (2, *model.event_shape) and x.min() >= 0 and x.max() <= 1
        assert model.stage_now == Stage(model.last, 1.0)


def test_the_channels_are_the_papers():
    """Karras et al. 2018, table 2: 512 up to 32 × 32, then half as many at each level."""
    with torch.device("meta"):
        generator = triptych.ProgressiveGAN((3, 1024, 1024), width=512).generator
    assert [colours.weight.shape[1] for colours in generator.to_colours] == [512, 512, 512, 512, 256, 128, 64, 32, 16]


def test_a_training_from_a_grown_run_goes_on_at_its_size(tmp_path):
    recipe, data = growing(6), pixels(20, 3, 16, 16)
    run = start(tmp_path / "first", recipe, data)
    train.fit(run, data)
    reached = triptych.load(tmp_path / "first").stage_now
    assert reached.level > 2
    second = Run.create(tmp_path / "second", recipe, initial_model(tmp_path / "first", (3, 16, 16)))
    rounds = train.train(second, data)
    next(rounds)
    assert second.model.stage_now == reached  # the first round shows what comes next
    next(rounds)
    assert second.model.stage_now > reached
    second.save()
    resumed = Run.resume(tmp_path / "second", steps=8)
    next(train.train(resumed, data))
    assert resumed.model.stage_now > second.model.stage_now


def test_growth_counts_what_the_discriminator_was_shown(tmp_path):
    recipe, data = growing(3, plays=2), pixels(20, 3, 16, 16)
    run = start(tmp_path / "run", recipe, data)
    train.fit(run, data)
    assert int(run.model.shown) == 2 * 2 * recipe.training.batch  # at the beginning of the third round


@pytest.mark.parametrize("side", [4, 8, 32])
def test_without_a_number_of_pictures_every_size_is_trained(side):
    recipe = dataclasses.replace(growing(700), model=ProgressiveModel(latent_dim=3, width=4), size=side)
    model = families.build(recipe, torch.zeros(2, 3, side, side, dtype=torch.uint8))
    images = recipe.training.batch
    assert model.stage(0) == 2
    model.grow(690 * images)
    assert model.stage_now == Stage(model.last, 1.0)
    model.grow(400 * images)
    assert side == 4 or model.stage_now != Stage(model.last, 1.0)
