"""Several processes train as one does: the same steps, the same rewards, on any number of ranks."""

from __future__ import annotations

import io
import types

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny import NO_GENERATOR, TINY_NETWORKS, darkness
from torch import nn

from rgsud_fast.config import Config
from rgsud_fast.data import Domains, FolderSet, Pair
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import make_scorer
from rgsud_fast.rewards.pool import RewardPool
from rgsud_fast.system.distributed import Ranks, process_group
from rgsud_fast.training.divisible import check_alike
from rgsud_fast.training.trainer import Trainer
from rgsud_fast.training.validation import validate

CPU = torch.device("cpu")
SIZES = [(40, 50), (33, 35), (64, 48), (40, 41), (36, 60)]
STEPS, STOP = 20, 13

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this PyTorch is built without torch.distributed")


_FIRST = {"first": "oriented", "fidelity": 9.0, "sweep_start": 0.9, "sweep_every": 6, "sweep_images": 1}
# Beside the generator, on half of the crops of each rank; and without one.
WITH_PASTED = (
    {"loss": {"pasted": 1.0, "pasted_share": 0.5, "pasted_on_rewards": 1.0}, "reward": _FIRST},
    {"loss": NO_GENERATOR | {"pasted": 1.0}, "reward": _FIRST},
)


def images(seed: int) -> FolderSet:
    generator = np.random.default_rng(seed)
    arrays = [generator.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    return FolderSet.from_arrays([str(i) for i in range(len(arrays))], arrays)


class Idle(nn.Module):
    """A user's own derainer, a part of which does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.idle = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, image):
        return self.busy(image)


def trainer_of(ranks: Ranks, derainer: nn.Module | None = None, **fields) -> Trainer:
    rainy, clean = images(0), images(1)
    reward = {"sweep_start": 0.9, "sweep_every": 6, "sweep_images": 1, "keep": 2, "mirror": False, "grey_layer": False}
    config = Config(
        **{"preset": "small-gan", "batch": 4, "crop": 32, "stage1_iterations": 10, "stage2_iterations": 10}
        | {"network": TINY_NETWORKS, "reward": reward, "optim": {"discriminator_warmup": 2, "discriminator_reals": 2}}
        | fields
    )
    pairs = [Pair(str(i), rainy[i], clean[i]) for i in range(len(rainy))]
    scorer = make_scorer(darkness, rainy, clean)
    return Trainer(config, Domains(rainy, clean, pairs), scorer, CPU, derainer, ranks=ranks)


def advance(trainer: Trainer, steps: int) -> None:
    for _ in range(steps):
        if trainer.sweep_due():
            trainer.sweep()
        trainer.iterate()


def train_all(ranks, **fields):
    """A whole run; beside it, on several ranks, the rest of one that a single process began."""
    trainer = trainer_of(ranks, **fields)
    trainer.seed_rewards()
    advance(trainer, STOP)
    found = {"state": copied(trainer.state_dict())}
    advance(trainer, STEPS - STOP)
    found["weights"] = weights_of(trainer)
    found["outcomes"], found["filled"] = trainer.outcomes, trainer.pool.filled
    found["mean"] = float(trainer.pool.mean_score())
    found["figures"] = validate(trainer.derainer, trainer.domains.val, CPU, ranks=ranks)
    trainer.collect_rewards()
    return found | {"whole": isinstance(trainer.pool, RewardPool)}


def train_all_and_the_rest_of_another(ranks, folder):
    found = train_all(ranks)
    found["pasted"] = [train_all(ranks, **fields)["weights"] for fields in WITH_PASTED]
    own = trainer_of(ranks, Idle())
    advance(own, 3)
    found["own"] = weights_of(own)
    return found | {"rest": rest(ranks, torch.load(f"{folder}/alone.pt", weights_only=True))}


def rest(ranks, state):
    trainer = trainer_of(ranks)
    trainer.load_state_dict(state)
    advance(trainer, STEPS - trainer.step)
    return weights_of(trainer)


def copied(state):
    """The state of a moment: saved as a checkpoint is, and read again."""
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def weights_of(trainer):
    """Weights by name, but for the biases before a normalisation, which have no gradient and follow its rounding."""
    idle = [f"discriminator.layers.{i}.bias" for i in (2, 4, 6)]
    named = {f"{kind}.{name}": p for kind, net in trainer.nets._asdict().items() for name, p in net.named_parameters()}
    return {name: parameter.detach().clone() for name, parameter in named.items() if name not in idle}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def assert_alike(one, other):
    """Equal but for rounding, which Adam magnifies where gradients are small: mostly those of the U-Net in stage 2."""
    start = weights_of(trainer_of(Ranks(CPU)))
    moved = {name: float((one[name] - start[name]).abs().max()) for name in one}
    apart = {name: float((one[name] - other[name]).abs().max()) for name in one}
    assert max(apart.values()) < 0.05 * max(moved.values())
    derainer = [name for name in one if name.startswith("derainer")]
    assert sum(apart[name] for name in derainer) < 0.005 * sum(moved[name] for name in derainer)


def test_two_ranks_of_half_a_batch_train_as_one_rank_of_a_whole_one(tmp_path):
    alone = train_all(Ranks(CPU))
    torch.save(alone["state"], tmp_path / "alone.pt")
    mp.spawn(call, (2, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))

    assert 0 < int(alone["filled"].sum()) < len(SIZES)  # so the reward loss averaged over a part of the crops
    assert_alike(alone["weights"], first["weights"])
    assert same(first["weights"], second["weights"])
    assert torch.equal(first["filled"], alone["filled"]) and first["outcomes"] == alone["outcomes"]
    assert first["mean"] == second["mean"] == pytest.approx(alone["mean"], abs=1e-4)
    assert first["figures"] == second["figures"] == pytest.approx(alone["figures"], abs=1e-2)
    assert second["state"]["pool"] == {} and first["whole"] and not second["whole"]
    assert same(first["own"], second["own"])
    for fields, one, other in zip(WITH_PASTED, first["pasted"], second["pasted"], strict=True):
        assert_alike(train_all(Ranks(CPU), **fields)["weights"], one)
        assert same(one, other)
    # Resumed on another number of ranks.
    assert_alike(alone["weights"], first["rest"])
    assert_alike(alone["weights"], rest(Ranks(CPU), first["state"]))


def test_ranks_that_read_different_images_are_told(monkeypatch):
    ranks = Ranks(CPU)
    monkeypatch.setattr(ranks, "all_gather", lambda own: [own, [own[0][1:], own[1]]])
    with pytest.raises(UserError, match="processes of this run read different images"):
        trainer_of(ranks)


def test_ranks_that_take_pairs_for_different_types_are_told(monkeypatch):
    ranks, pairs = Ranks(CPU), types.SimpleNamespace(kinds=[0, 3])
    monkeypatch.setattr(ranks, "all_gather", lambda own: [own, [0, 2] if own == pairs.kinds else own])
    with pytest.raises(UserError, match="take labelled pairs for different types of rain"):
        check_alike([["a"]], types.SimpleNamespace(pairs=pairs), ranks)
    pairs.kinds = [0, 2]
    check_alike([["a"]], types.SimpleNamespace(pairs=pairs), ranks)


def test_variables_of_several_processes_that_torchrun_did_not_start_are_told(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="start with torchrun, or unset WORLD_SIZE"), process_group("cpu"):
        pass


def call(rank, count, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=count)
    torch.save(train_all_and_the_rest_of_another(Ranks(CPU, count), folder), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
