"""BRISQUE against OpenCV's own, its features and its scores; and images and files it cannot use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from photographs import photographs

from rgsud_fast.data import read_image, to_batch
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import brisque, load_brisque_model, make_scorer, restore_scorer
from rgsud_fast.ops import nss_features
from rgsud_fast.ops.nss_features import OPENCV

SHAPES = [0, 2, 6, 10, 14, 18, 20, 24, 28, 32]  # among the features; on a grid of 0.001
OPENCV_SCORES = {"I03": 84.463, "I04": 0.0, "I06": 1.295}  # cv2's QualityBRISQUE_compute


@pytest.fixture(scope="module")
def model(rgsud_data):
    return load_brisque_model(rgsud_data / "iqa/brisque_model_live.yml")


def opencv_features(array):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(getattr(cv2, "quality", None), "QualityBRISQUE_computeFeatures"):
        pytest.skip("this OpenCV lacks its contributed modules: pip install opencv-contrib-python-headless")
    return torch.from_numpy(np.asarray(cv2.quality.QualityBRISQUE_computeFeatures(array[..., ::-1].copy()))).flatten()


@pytest.mark.parametrize("size", [(96, 128), (101, 77), (64, 65)], ids=str)
def test_features_are_opencvs(size):
    image = photographs(1, *size)
    array = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    apart = (nss_features(image, None, OPENCV)[0] - opencv_features(array)).abs()
    assert apart[SHAPES].max() < 1.1e-3  # a shape half-way between two steps of the grid may be taken for either
    apart[SHAPES] = 0
    assert apart.max() < 2e-3  # OpenCV computes in float32


@pytest.mark.parametrize("name", OPENCV_SCORES)
def test_scores_and_features_of_published_images(model, name, rgsud_data):
    array = read_image(rgsud_data / f"iqa/images/{name}.bmp")
    got = brisque(to_batch(array), model)
    assert abs(got.item() - OPENCV_SCORES[name]) < 0.05
    assert (nss_features(to_batch(array), None, OPENCV)[0] - opencv_features(array)).abs().max() < 2e-3


def test_without_the_clamp_the_best_images_still_differ(model, rgsud_data):
    image = to_batch(read_image(rgsud_data / "iqa/images/I04.bmp"))
    assert brisque(image, model).item() == 0.0
    assert brisque(image, model, clamp=False).item() < 0


def test_images_it_cannot_describe_are_rejected_alone(model):
    images = photographs(4, 96, 128)
    images[0] = 0.5
    images[2, 0, 3, 3] = torch.nan
    images[3, 1, 5, 5] = torch.inf
    got = brisque(images, model)
    assert got.isnan().tolist() == [True, False, True, True]
    assert torch.equal(got[1:2], brisque(images[1:2], model))
    assert brisque(photographs(2, 15, 40), model).isnan().all()


def test_the_scorer_is_made_by_name_and_restored(model, rgsud_data):
    scorer = make_scorer(f"brisque:{rgsud_data}/iqa/brisque_model_live.yml", (), ())
    images = photographs(2, 80, 90)
    scores = scorer.score(images)
    assert torch.equal(scores, -brisque(images, model, clamp=False))
    assert torch.equal(restore_scorer("brisque", scorer.state()).score(images), scores)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%YAML:1.0\n---\nopencv_ml_svm: [1, 2\n",
        "%YAML:1.0\n---\nopencv_ml_svm:\n   svmType: C_SVC\n",
        "%YAML:1.0\n---\nopencv_ml_svm: !!python/object/apply:os.system ['true']\n",
        "\x00\x01",
    ],
    ids=["empty", "broken", "another kind", "code", "binary"],
)
def test_a_file_that_is_no_model_is_named(tmp_path, text):
    for name in ("brisque_model.yml", "brisque_range.yml"):
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=r"BRISQUE model .*brisque_model\.yml"):
        load_brisque_model(tmp_path / "brisque_model.yml")


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(UserError, match="OpenCV's contrib repository"):
        make_scorer(f"brisque:{tmp_path}/none.yml", (), ())
