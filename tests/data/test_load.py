"""Opening a run's images: every mistake in the folders is named, with its field and its mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rgsud_fast.config import DataConfig
from rgsud_fast.data import load_domains, write_image
from rgsud_fast.errors import UserError


def photo(seed: int, height: int = 32, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path) -> DataConfig:
    """Two domains of three photographs and two validation pairs."""
    for offset, kind, names in (
        (0, "rainy", ("a", "b", "c")),
        (10, "clean", ("a", "b", "c")),
        (20, "val_rainy", ("rain-1", "rain-2")),
        (30, "val_clean", ("norain-1", "norain-2")),
    ):
        for i, name in enumerate(names):
            write_image(tmp_path / kind / f"{name}.png", photo(offset + i))
    return DataConfig(**{kind: tmp_path / kind for kind in ("rainy", "clean", "val_rainy", "val_clean")})


@pytest.fixture
def load(tmp_path):
    """Call load_domains; returns the domains and the warnings."""

    def call(data):
        warnings = []
        return load_domains(data, tmp_path / "cache", warn=warnings.append), warnings

    return call


def test_folders_are_opened_and_pairs_matched_without_a_warning(folders, load):
    domains, warnings = load(folders)
    assert warnings == []
    assert domains.rainy.names == domains.clean.names == ["a.png", "b.png", "c.png"]
    assert [pair.name for pair in domains.val] == ["rain-1.png", "rain-2.png"]
    assert np.array_equal(domains.val[1].rainy, photo(21))
    assert np.array_equal(domains.val[1].clean, photo(31))


def test_validation_is_optional(folders, load):
    domains, _ = load(DataConfig(rainy=folders.rainy, clean=folders.clean))
    assert domains.val is None


def test_the_configured_cache_dir_comes_first(folders, load, tmp_path):
    folders.cache_dir = tmp_path / "elsewhere"
    load(folders)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 8
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("missing, given", [("rainy", "clean"), ("clean", "rainy")])
def test_a_domain_not_given_names_its_field_and_the_demo(folders, load, missing, given):
    with pytest.raises(UserError, match=rf"data\.{missing} is not set.*--data\.{missing}.*--preset demo"):
        load(DataConfig(**{given: getattr(folders, given)}))


@pytest.mark.parametrize("field", ["rainy", "clean", "val_rainy", "val_clean"])
def test_a_missing_folder_names_its_field(folders, load, field):
    setattr(folders, field, Path("/nonexistent/photos"))
    with pytest.raises(UserError, match=rf"data\.{field}: /nonexistent/photos: no such folder"):
        load(folders)


def test_a_file_in_the_place_of_a_folder_is_not_called_missing(folders, load, tmp_path):
    (tmp_path / "one.png").touch()
    folders.clean = tmp_path / "one.png"
    with pytest.raises(UserError, match=r"data\.clean: .*one\.png: no folder; give"):
        load(folders)


def test_the_demo_needs_no_folder_and_refuses_one(folders, load):
    domains, warnings = load(DataConfig(demo=True))
    assert len(domains.rainy) > 0
    assert warnings == []
    with pytest.raises(UserError, match=r"data\.rainy.*data\.demo"):
        load(DataConfig(demo=True, rainy=folders.rainy))


def test_unequal_counts_name_the_first_names_that_differ(folders, load):
    write_image(folders.val_clean / "norain-3.png", photo(40))
    with pytest.raises(UserError, match=r"val_rainy has 2 images and data\.val_clean 3.*rain-1\.png and norain-1\.png"):
        load(folders)


def test_unequal_counts_name_the_image_without_a_partner(folders, load, tmp_path):
    folders.val_rainy = tmp_path / "rainy"
    folders.val_clean = tmp_path / "shorter"
    for name in ("a", "b"):
        write_image(folders.val_clean / f"{name}.jpg", photo(50))
    with pytest.raises(UserError, match=r"c\.png has no partner"):
        load(folders)


def test_unequal_sizes_name_the_pair(folders, load):
    write_image(folders.val_clean / "norain-2.png", photo(31, 33, 40))
    with pytest.raises(UserError, match=r"pair 2.*rain-2\.png is 40 x 32.*norain-2\.png 40 x 33"):
        load(folders)


def test_names_out_of_step_are_an_error(load, folders, tmp_path):
    for kind, names in (("one", "abd"), ("other", "acd")):
        for i, name in enumerate(names):
            write_image(tmp_path / kind / f"{name}.png", photo(60 + i))
    folders.val_rainy, folders.val_clean = tmp_path / "other", tmp_path / "one"
    with pytest.raises(UserError, match=r"pair 2.*c\.png.*b\.png"):
        load(folders)


def test_an_image_in_both_domains_is_named(folders, load):
    write_image(folders.clean / "copy.bmp", photo(1))
    _, warnings = load(folders)
    assert len(warnings) == 1
    assert "in both data.rainy and data.clean: b.png (copy.bmp);" in warnings[0]


@pytest.mark.parametrize("train", ["rainy", "clean"])
@pytest.mark.parametrize("val, seed", [("val_rainy", 21), ("val_clean", 31)])
def test_a_validation_image_among_the_training_images_is_named(folders, load, train, val, seed):
    write_image(getattr(folders, train) / "copy.png", photo(seed))
    _, warnings = load(folders)
    assert len(warnings) == 1
    assert f"in both data.{train} and data.{val}: copy.png (" in warnings[0]


def test_one_folder_for_both_domains_names_its_images(folders, load):
    _, warnings = load(DataConfig(rainy=folders.rainy, clean=folders.rainy))
    assert len(warnings) == 1
    assert "a.png, b.png, c.png;" in warnings[0]


def test_a_long_list_is_cut_short(folders, load):
    for i in range(20):
        write_image(folders.rainy / f"{i}.png", photo(100 + i))
    _, warnings = load(DataConfig(rainy=folders.rainy, clean=folders.rainy))
    assert "and 13 more;" in warnings[0]


def test_real_validation_pairs_load_without_a_warning(load, rgsud_data):
    rain = rgsud_data / "rain100l"
    data = DataConfig(
        rainy=rain / "val" / "rainy",
        clean=rgsud_data / "clean",
        val_rainy=rain / "val" / "rainy",
        val_clean=rain / "val" / "clean",
    )
    domains, warnings = load(data)
    assert len(domains.val) == 12
    assert [("data.rainy" in line, "data.val_rainy" in line) for line in warnings] == [(True, True)]


def test_what_lies_beside_the_images_is_told(folders, load):
    (Path(folders.rainy) / "clip.mov").touch()
    assert load(folders)[1] == ["data.rainy: passed over: 1 .mov"]


def test_a_folder_of_pairs_that_cannot_be_is_told_with_its_field(folders, load, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^data\.pairs: .*empty: no image in this folder or below it"):
        load(folders.model_copy(update={"pairs": (tmp_path / "empty",)}))
