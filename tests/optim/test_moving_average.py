"""The moving average follows its formula and is what judges, validates and is saved."""

from __future__ import annotations

import pytest
import torch
from tiny import darkness, same_bits
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rgsud_fast.config import Config
from rgsud_fast.data import load_domains
from rgsud_fast.iqa import make_scorer
from rgsud_fast.networks.weights import load_network
from rgsud_fast.optim.moving_average import MovingAverage
from rgsud_fast.runs.folder import RunFolder
from rgsud_fast.system.progress import Progress
from rgsud_fast.training import results as reports
from rgsud_fast.training.monitor import Monitor
from rgsud_fast.training.trainer import Trainer


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))


def test_it_follows_the_formula():
    current = network()
    average = MovingAverage(current, 0.7)
    expected = [parameter.detach().double() for parameter in current.parameters()]
    for n in range(30):  # past update 18 the decay is constant
        for parameter in current.parameters():
            parameter.data.copy_(torch.randn_like(parameter))
        average.update_parameters(current)
        share = min(0.7, (1 + n) / (10 + n))
        new = [parameter.detach().double() for parameter in current.parameters()]
        expected = [share * old + (1 - share) * value for old, value in zip(expected, new, strict=True)]
    for got, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(got.double(), value, rtol=1e-6, atol=1e-6)


def test_buffers_are_copied():
    current = network()
    average = MovingAverage(current, 0.9)
    current(torch.rand(2, 3, 8, 8))
    average.update_parameters(current)
    assert same_bits(list(average.module.buffers()), list(current.buffers()))
    assert current[1].num_batches_tracked == 1


def test_a_skipped_update_leaves_every_bit_and_the_count():
    current = network()
    average = MovingAverage(current, 0.9)
    average.update_parameters(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)), torch.tensor(False))
    before = {name: value.clone() for name, value in average.state_dict().items()}
    average.update_parameters(current, torch.tensor(True))
    assert same_bits(dict(average.state_dict()), before)
    assert average.n_averaged == 1


def test_a_checkpoint_of_pytorchs_own_loads():
    current = network()
    torchs = AveragedModel(current)
    for _ in range(3):
        torchs.update_parameters(current)
    average = MovingAverage(current, 0.9)
    average.load_state_dict(torchs.state_dict())
    assert average.n_averaged == 3


def test_everything_that_shows_or_saves_the_derainer_takes_the_average(config, tmp_path):
    config = Config(**config)
    domains = load_domains(config.data, tmp_path / "cache", print)
    trainer = Trainer(config, domains, make_scorer(darkness, domains.rainy, domains.clean), torch.device("cpu"))
    for _ in range(3):
        trainer.iterate()

    def left(name: str):
        folder = RunFolder(tmp_path / name / "run")
        folder.path.mkdir(parents=True)
        swept = trainer.sweep()
        with Monitor(trainer, folder, Progress(1, quiet=True)) as monitor:
            validated, held_out = monitor.validate(), monitor.held_out.measure(trainer.derainer)
        metrics = reports.finish(trainer, folder, Progress(1, quiet=True))
        weights = load_network(folder.path).state_dict()
        return [swept.refused, validated, held_out, metrics, folder.gallery.read_text(), weights]

    whole = left("whole")
    for parameter in trainer.nets.derainer.parameters():
        parameter.data.fill_(float("nan"))
    assert same_bits(whole, left("without the network in training"))
    assert same_bits(whole[-1], dict(trainer.average.module.state_dict()))


def test_its_kernel_averages_as_pytorch_does():
    kernel = pytest.importorskip("rgsud_fast.kernels.triton.moving_average")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    averages, present = ([torch.randn(shape, device=device) for shape in ((3, 5), (5000,), ())] for _ in range(2))
    share = torch.tensor(0.25, device=device)
    wanted = [average + share * (now - average) for average, now in zip(averages, present, strict=True)]
    averaging = kernel.Averaging(averages, present)
    averaging(share)
    for average, value in zip(averages, wanted, strict=True):
        torch.testing.assert_close(average, value, rtol=1e-6, atol=1e-6)
