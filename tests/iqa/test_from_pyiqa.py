"""Real metrics of pyiqa that need no download, its guards, and our NIQE on pyiqa's definition."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from photographs import photographs
from torch import nn

from rgsud_fast.data import list_images, read_image, to_batch
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import PyiqaScorer, load_niqe_model, make_scorer, niqe
from rgsud_fast.iqa.from_pyiqa import remember_texts
from rgsud_fast.ops.nss_features import YIQ, grey


@pytest.fixture(scope="module")
def pyiqa():
    return pytest.importorskip("pyiqa", reason="the extra [iqa] is not installed")


@pytest.fixture(scope="module")
def niqe_file(pyiqa, rgsud_data, tmp_path_factory):
    """The shared parameters in the form pyiqa reads."""
    from scipy.io import savemat

    path = tmp_path_factory.mktemp("niqe") / "niqe.mat"
    with np.load(rgsud_data / "iqa/niqe_pris_params.npz") as file:
        savemat(path, {"mu_prisparam": file["mu_pris_param"], "cov_prisparam": file["cov_pris_param"]})
    return path


@pytest.mark.parametrize("metric, sign", [("piqe", -1), ("entropy", 1)])
def test_metrics_that_need_no_file(pyiqa, metric, sign):
    images = photographs(2, 100, 130)
    scorer = make_scorer(f"pyiqa:{metric}", (), ())
    assert scorer.name == f"pyiqa:{metric}"
    scores = scorer.score(images)
    assert scores.shape == (2,) and scores.dtype == torch.float32
    theirs = pyiqa.create_metric(metric, device="cpu")
    expected = torch.stack([torch.as_tensor(theirs(image[None])).reshape(()) for image in images])
    torch.testing.assert_close(scores, sign * expected.float())


def test_exact_ones_in_bfloat16_and_numbers_beyond_the_range_are_judged(pyiqa):
    images = photographs(1, 100, 130)
    images[0, :, :5] = 1.2
    assert make_scorer("pyiqa:piqe", (), ()).score(images.bfloat16()).isfinite().all()


def test_an_image_that_the_metric_cannot_judge_is_rejected_alone(niqe_file, rgsud_data):
    scorer = PyiqaScorer("niqe", pretrained_model_path=str(niqe_file))
    images = photographs(3, 192, 200)
    alone = scorer.score(images[2:])
    images[0] = 0.5
    images[1, 0, 0, 0] = torch.nan
    with pytest.warns(UserWarning, match=r"pyiqa:niqe cannot judge an image of \[1, 3, 192, 200\]"):
        scores = scorer.score(images)
    assert scores.isfinite().tolist() == [False, False, True]
    assert torch.equal(scores[2:], alone)
    with pytest.warns(UserWarning, match="cannot judge"):
        assert not scorer.score(torch.rand(1, 3, 40, 40)).isfinite().any()


def test_our_niqe_on_their_definition(niqe_file, rgsud_data):
    from pyiqa.archs.func_util import diff_round
    from pyiqa.utils.color_util import to_y_channel

    model = load_niqe_model(rgsud_data / "iqa/niqe_pris_params.npz")
    scorer = PyiqaScorer("niqe", pretrained_model_path=str(niqe_file))
    for path in [*list_images(rgsud_data / "clean"), *list_images(rgsud_data / "iqa/images")]:
        image = to_batch(read_image(path))
        # Theirs rounds a product of float32 matrices, whose last bit differs by processor: where a grey level lies
        # halfway between two, so does theirs, and one level in a thousand pixels moves NIQE by 0.003.
        level = diff_round(to_y_channel(image, 255, "yiq"))
        apart = (grey(image, YIQ) - level[:, 0]).abs()
        assert apart.max() <= 1 and apart.mean() < 2e-3, path
        same = (level / 255).expand_as(image)
        assert abs(niqe(same, model, YIQ).item() + scorer.score(same).item()) < 1e-3, path


def test_unknown_and_comparing_metrics_are_refused(pyiqa):
    with pytest.raises(UserError, match="pyiqa has no such metric"):
        make_scorer("pyiqa:nqie", (), ())
    with pytest.raises(UserError, match="compares with a clean image"):
        make_scorer("pyiqa:psnr", (), ())


def test_missing_weights_are_told_within_seconds(pyiqa, tmp_path, monkeypatch):
    from pyiqa.utils import download_util

    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("socket.create_connection", unreachable)
    monkeypatch.setattr(download_util, "DEFAULT_CACHE_DIR", str(tmp_path))
    began = time.perf_counter()
    with pytest.raises(UserError, match=r"pyiqa:niqe could not be made .*first use"):
        make_scorer("pyiqa:niqe", (), ())
    assert time.perf_counter() - began < 15


def test_words_are_encoded_once():
    class Clip(nn.Module):
        calls = 0

        def encode_text(self, text):
            Clip.calls += 1
            return text.float() * 2

    class Metric(nn.Module):
        def __init__(self):
            super().__init__()
            self.clip_model = [Clip()]  # as pyiqa hides it from state_dict

    metric = Metric()
    remember_texts(metric)
    with torch.no_grad():
        for words in ([1, 2], [1, 2], [3, 4]):
            got = metric.clip_model[0].encode_text(torch.tensor(words))
            assert got.tolist() == [2.0 * word for word in words]
    assert Clip.calls == 2
