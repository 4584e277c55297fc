"""The buffer of earlier fakes is CycleGAN's pool of images, slot by slot, on any number of processes; it is resumed."""

from __future__ import annotations

import pytest
import torch
from tiny import darkness, run_of, same_bits, train_and_interrupt

from rgsud_fast.config import Config, load_config
from rgsud_fast.data import draw_exchanges
from rgsud_fast.errors import UserError
from rgsud_fast.optim.fake_buffer import FakeBuffer, join
from rgsud_fast.runs.checkpoint import load_checkpoint
from rgsud_fast.training import train

BATCH, STEPS = 4, 40
CPU = torch.device("cpu")


def fakes_of(step, kinds=1):
    return torch.rand(kinds * BATCH, 3, 5, 6, generator=torch.Generator().manual_seed(step))


def rounded(image):
    return (image * 255).round() / 255


@pytest.mark.parametrize("places, kinds", [(1, 1), (3, 1), (3, 2)])
def test_it_is_a_replay_of_the_published_rule(places, kinds):
    buffer = FakeBuffer(places)
    pools = [[] for _ in range(kinds * BATCH)]
    swaps = 0
    for step in range(STEPS):
        fakes = fakes_of(step, kinds)
        [drawn] = draw_exchanges(7, step, BATCH, 1, places, range(BATCH))
        shown = buffer.exchange(fakes, drawn)
        for row, fake in enumerate(fakes):
            use, place = drawn[row % BATCH].tolist()
            if len(pools[row]) < places:
                pools[row].append(rounded(fake))
                wanted = fake
            elif use:
                wanted, pools[row][place] = pools[row][place], rounded(fake)
                swaps += 1
            else:
                wanted = fake
            assert torch.equal(shown[row], wanted)
    assert 0.35 < swaps / ((STEPS - places) * kinds * BATCH) < 0.65


def test_draws_are_a_function_of_seed_step_and_slot_and_cover_all_places():
    whole = draw_exchanges(3, 9, BATCH, 2, 5, range(BATCH))
    assert whole.shape == (2, BATCH, 2) and whole.dtype == torch.int64
    halves = [draw_exchanges(3, 9, BATCH, 2, 5, slots) for slots in (range(2), range(2, 4))]
    assert torch.equal(whole, torch.cat(halves, dim=1))
    many = torch.cat([draw_exchanges(3, step, BATCH, 2, 5, range(BATCH)) for step in range(50)], dim=1)
    assert set(many[..., 0].flatten().tolist()) == {0, 1} and set(many[..., 1].flatten().tolist()) == set(range(5))
    assert not torch.equal(many[0], many[1]), "judges draw apart"


@pytest.mark.parametrize("kinds", [1, 2])
def test_two_processes_show_what_one_does_and_their_state_goes_on_in_one(kinds):
    alone, shares = FakeBuffer(3), [FakeBuffer(3), FakeBuffer(3)]
    slots = [range(2), range(2, 4)]

    def both(step):
        fakes, [drawn] = fakes_of(step, kinds), draw_exchanges(7, step, BATCH, 1, 3, range(BATCH))
        parts = fakes.view(kinds, BATCH, 3, 5, 6)
        own = zip(shares, slots, strict=True)
        shown = [b.exchange(parts[:, s.start : s.stop].flatten(0, 1), drawn[s.start : s.stop]) for b, s in own]
        whole = alone.exchange(fakes, drawn).view(kinds, BATCH, 3, 5, 6)
        assert torch.equal(torch.cat([part.view(kinds, 2, 3, 5, 6) for part in shown], dim=1), whole)

    for step in range(8):
        both(step)
    state = join([share.state_dict() for share in shares])
    assert same_bits(state, alone.state_dict())
    alone = FakeBuffer(3)
    alone.load_state_dict(state, range(BATCH), CPU)
    shares[1] = FakeBuffer(3)
    shares[1].load_state_dict(state, slots[1], CPU)
    for step in range(8, 16):
        both(step)
    assert join([FakeBuffer(3).state_dict()] * 2) == {}


def test_what_is_not_finite_is_not_kept():
    buffer, drawn = FakeBuffer(1), torch.tensor([[1, 0]])
    fakes = torch.full((1, 3, 4, 4), 0.2)
    buffer.exchange(fakes, drawn)
    torch.testing.assert_close(buffer.exchange(fakes * torch.nan, drawn), fakes)
    torch.testing.assert_close(buffer.exchange(fakes, drawn), fakes)


def buffered(config, places=4):
    return run_of(config, "cyclegan", optim={"fake_buffer": places})


@pytest.mark.parametrize("stop", [2, 8])
def test_a_resumed_run_shows_the_same_earlier_fakes(config, tmp_path, monkeypatch, stop):
    whole = train(buffered(config), scorer=darkness, quiet=True)
    broken = buffered(config) | {"out": str(tmp_path / "broken")}
    train_and_interrupt(broken, stop - 1, monkeypatch)
    resumed = train(broken, scorer=darkness, resume=True, quiet=True)
    states = [load_checkpoint(result.run_dir / "checkpoint.pt") for result in (whole, resumed)]
    assert set(states[0]["buffers"]) == {"clean_judge", "rainy_judge"}
    assert states[0]["buffers"]["clean_judge"]["bytes"].shape == (1, 2, 2, 3, 32, 32)
    assert int(states[0]["buffers"]["clean_judge"]["seen"]) == 10
    for part in states[0]:
        assert same_bits(states[0][part], states[1][part]), part


def test_a_buffer_changes_what_judges_learn_and_none_is_none(config, tmp_path):
    results = [
        train(buffered(config, n) | {"out": str(tmp_path / str(n))}, scorer=darkness, quiet=True) for n in (0, 2)
    ]
    without, with_one = (load_checkpoint(result.run_dir / "checkpoint.pt") for result in results)
    assert "buffers" not in without
    judges = [state["networks"]["clean_judge"] for state in (without, with_one)]
    assert not same_bits(*judges)


def test_places_of_a_batch_have_equally_many():
    with pytest.raises(UserError, match=r"optim\.fake_buffer must be a multiple of batch 8, got 50"):
        load_config({"optim": {"fake_buffer": 50}})
    assert Config(batch=1, optim={"fake_buffer": 50}).optim.fake_buffer == 50
