"""Files from anywhere: images, configurations, score models and weights that are damaged, or made to do damage."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fuzzing import try_cases
from hypothesis import strategies as st
from PIL import Image

from rgsud_fast.arguments import read_train
from rgsud_fast.checkpoint import FIELDS, load_checkpoint, save_checkpoint
from rgsud_fast.config import PRESETS, Config, load_config
from rgsud_fast.data import read_image
from rgsud_fast.errors import UserError
from rgsud_fast.iqa import NiqeScorer, brisque, load_brisque_model, load_scorer, save_scorer
from rgsud_fast.iqa.niqe import NiqeModel, load_niqe_model
from rgsud_fast.networks import Derainer
from rgsud_fast.weights import load_network, save_network

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = st.builds(
    lambda number, form: struct.pack(form, number & (256 ** struct.calcsize(form) - 1)),
    st.sampled_from(NUMBERS) | st.integers(0, 2**32 - 1),
    st.sampled_from(("B", "<H", ">H", "<I", ">I")),
)


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """One of the files with a few places overwritten, cut out, repeated or cut off."""
    name = draw(st.sampled_from(list(whole)))
    data = bytearray(whole[name])
    for _ in range(draw(st.integers(0, 5))):
        # Most of what can be wrong lies in the header.
        at = draw(st.integers(0, max(min(len(data), 200) - 1, 0)) | st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(("write", "write", "write", "cut", "repeat", "end", "insert")))
        length = draw(st.integers(1, 40))
        if kind == "write":
            word = draw(WORDS)
            data[at : at + len(word)] = word
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at:]
    return name, bytes(data)


def refuses(read: Any, path: Path, what: str) -> Any:
    """What is read, or None where it is refused in one line that names the file."""
    try:
        return read(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert what in str(error)
        return None


# Images


def photo(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (36, 40, 3), dtype=np.uint8) // 32 * 32
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
    return Image.fromarray(pixels).convert(mode)


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    held = io.BytesIO()
    photo(mode).save(held, kind, **options)
    return held.getvalue()


def images() -> dict[str, bytes]:
    """A valid file of each format, in its colour modes and compressions."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    files = {f"png {mode}": saved("PNG", mode) for mode in ("RGB", "RGBA", "P", "L", "LA", "1", "I;16")}
    files["png transparent"] = saved("PNG", "P", transparency=3)
    files["png exif"] = saved("PNG", exif=exif, icc_profile=b"no profile", dpi=(72, 72))
    files["png frames"] = saved("PNG", save_all=True, append_images=[photo()])
    files |= {f"jpeg {mode}": saved("JPEG", mode) for mode in ("RGB", "L", "CMYK")}
    files["jpeg exif"] = saved("JPEG", exif=exif, progressive=True, optimize=True)
    files |= {f"bmp {mode}": saved("BMP", mode) for mode in ("RGB", "RGBA", "P", "L", "1")}
    files |= {f"tiff {mode}": saved("TIFF", mode) for mode in ("RGB", "RGBA", "P", "L", "1", "CMYK", "I;16", "F")}
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[compression] = saved("TIFF", compression=compression)
    files["tiff g4"] = saved("TIFF", "1", compression="group4")
    files["tiff frames"] = saved("TIFF", save_all=True, append_images=[photo("L")], exif=exif)
    files |= {f"webp {mode}": saved("WEBP", mode, lossless=mode == "RGBA") for mode in ("RGB", "RGBA")}
    files["webp frames"] = saved("WEBP", save_all=True, append_images=[photo("RGBA")], exif=exif)
    return files


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


SIDES = st.sampled_from((0, 1, 31, 32, 33, 64, 2**16, 2**31 - 1, 2**31, 2**32 - 1))


@st.composite
def png(draw: st.DrawFn) -> tuple[str, bytes]:
    """Chunks with right checksums and wrong contents."""
    head = struct.pack(">II", draw(SIDES), draw(SIDES)) + bytes(
        draw(st.sampled_from(((8, 2), (8, 6), (16, 2), (8, 3), (1, 0), (16, 0), (3, 9))))
    )
    head += bytes(draw(st.lists(st.sampled_from((0, 0, 1, 7)), min_size=3, max_size=3)))
    kinds = st.sampled_from(
        (b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"iTXt", b"pHYs", b"acTL", b"fcTL", b"gAMA", b"cHRM", b"sRGB")
    )
    contents = st.binary(max_size=40) | st.just(b"a\0\0" + zlib.compress(bytes(2**21)))
    extra = [chunk(draw(kinds), draw(contents)) for _ in range(draw(st.integers(0, 3)))]
    body = zlib.compress(bytes(draw(st.sampled_from((0, 100, 3 * 33 * 34, 2**20)))))
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return "png made", b"".join(parts)


@st.composite
def bmp(draw: st.DrawFn) -> tuple[str, bytes]:
    """A header of drawn sizes, depth, compression and palette before a few rows."""
    planes, depth = draw(st.sampled_from((0, 1, 3))), draw(st.sampled_from((0, 1, 2, 4, 8, 16, 24, 32, 64)))
    compression, colours = draw(st.integers(0, 6)), draw(st.sampled_from((0, 1, 256, 2**31, 2**32 - 1)))
    size = draw(st.sampled_from((12, 40, 52, 56, 64, 108, 124, 2**31)))
    info = struct.pack("<IIIHHIIIIII", size, draw(SIDES), draw(SIDES), planes, depth, compression, 0, 0, 0, colours, 0)
    start = draw(st.sampled_from((0, 54, 60, 1078, 2**31)))
    return "bmp made", b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + info + draw(st.binary(max_size=64)) * 40


TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    317,
    320,
    322,
    323,
    324,
    325,
    338,
    339,
    347,
    700,
    34665,
    34675,
)


@st.composite
def tiff(draw: st.DrawFn) -> tuple[str, bytes]:
    """A directory of drawn entries; those that a decoder needs come first, so that some get far."""
    order = draw(st.sampled_from(("<", ">")))
    entries = [(256, 4, 1, draw(SIDES)), (257, 4, 1, draw(SIDES)), (258, 3, 1, 8), (262, 3, 1, draw(st.integers(0, 8)))]
    entries += [
        (259, 3, 1, draw(st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 50000)))),
        (273, 4, 1, 8),
    ]
    entries += [
        (278, 4, 1, 33),
        (279, 4, 1, draw(st.sampled_from((0, 40, 33 * 33, 2**32 - 1)))),
        (277, 3, 1, draw(st.integers(0, 5))),
    ]
    wild = st.tuples(st.sampled_from(TAGS), st.integers(0, 17), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
    entries = sorted(entries + draw(st.lists(wild, max_size=3)))
    body = draw(st.binary(min_size=1, max_size=64)) * 30
    directory = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *e) for e in entries)
    following = draw(st.sampled_from((0, 8, 8 + len(body), 2**31)))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return "tiff made", mark + struct.pack(order + "I", 8 + len(body)) + body + directory + struct.pack(
        order + "I", following
    )


def test_the_image_reader_reads_or_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)  # the limit itself is Pillow's; here cases are to be quick
    path = tmp_path / "photo.png"

    def check(case: tuple[str, bytes]) -> None:
        path.write_bytes(case[1])
        image = refuses(read_image, path, "photo.png")
        if image is not None:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.size <= 6 * 2**20

    whole = images()
    for name, data in whole.items():
        check((name, data))
        path.write_bytes(data)
        assert read_image(path).shape in ((36, 40, 3), (40, 36, 3))
    try_cases(check, 2500, st.one_of(damaged(whole), damaged(whole), png(), bmp(), tiff()))


# Configurations

SCRAPS = (
    *(
        "~",
        ".nan",
        "-.inf",
        "1e400",
        "0x",
        "0o9",
        "1:99:99",
        "2001-99-99",
        "yes",
        "''",
        '"\\0"',
        '"a\\nb"',
        "[",
        "{",
        "]",
        "- -",
    ),
    *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!timestamp x", "!!binary x", "!!int x"),
    *(
        "!!bool x",
        "!!float x",
        "!!set {a}",
        "!!omap [a: 1]",
        "!!pairs [1]",
        "!!null x",
        "? [a]\n: b",
        "<<: 3",
        "<<: [{a: 1}]",
    ),
    *(
        "&a [*a]",
        "*a",
        "&a {b: *a}",
        "[" * 3000,
        "{a: " * 800,
        "9" * 6000,
        "- " * 2000,
        "a" * 5000,
        "../../x",
        "/",
        "$HOME",
    ),
    *(
        "%YAML 9.9",
        "---\n---",
        "...",
        "\t",
        "\ufeff",
        "\u2028",
        "\x85",
        "!<tag:a> b",
        "| \n x",
        ">9\n x",
        "@",
        "`",
        "'",
    ),
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
)
FIELD_NAMES = sorted(
    {
        *Config.model_fields,
        *(
            name
            for part in ("data", "network", "loss", "optim", "reward")
            for name in Config.model_fields[part].annotation.model_fields
        ),
    }
)
KEYS = st.sampled_from(FIELD_NAMES) | st.sampled_from(FIELD_NAMES) | LEAVES
DOCUMENTS = st.recursive(
    LEAVES | st.sampled_from(list(PRESETS)),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=4),
    max_leaves=12,
)


VALID = yaml.safe_dump(
    {
        **{"preset": "small", "out": "runs/one", "device": "cpu", "batch": 2, "cuda_graph": False},
        "data": {"rainy": "r", "clean": "c", "cache_dir": None},
        "network": {"derainer_width": 8, "derainer_encoder": [1, 1], "derainer_decoder": [1, 1]},
        "optim": {"learning_rate": 0.0002, "ema_decay": 0.9},
        "reward": {"scorer": "ensemble:[domain,niqe]", "pool_device_gib": 0.5, "mirror": True},
    },
    sort_keys=False,
)


@st.composite
def scraped(draw: st.DrawFn, text: str) -> str:
    """The text with a few of its lines, values or letters replaced by what YAML can trip over."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        scrap = draw(st.sampled_from(SCRAPS) | st.text(max_size=6))
        head = lines[at].split(":")[0]
        kind = draw(st.sampled_from(("value", "value", "value", "line", "key", "twice", "letter", "gone")))
        if kind == "letter":
            place = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + scrap[:2] + lines[at][place + 1 :]
        elif kind == "twice":
            lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
        elif kind == "gone":
            lines[at] = ""
        else:
            lines[at] = {"value": f"{head}: {scrap}", "line": scrap, "key": f"{scrap}: 1"}[kind]
    return "\n".join(lines)


def written(path: Path, document: Any) -> None:
    """The document as YAML; text as it is."""
    text = document if isinstance(document, str) else yaml.safe_dump(document, allow_unicode=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def test_a_configuration_is_read_or_refused(tmp_path):
    path = tmp_path / "config.yaml"

    def check(document: Any) -> None:
        written(path, document)
        config = refuses(load_config, path, "config")
        assert config is None or isinstance(config, Config)

    try_cases(check, 2000, scraped(VALID) | scraped(VALID) | DOCUMENTS)


def test_a_configuration_in_python_is_taken_or_refused():
    def check(document: Any) -> None:
        if not isinstance(document, (str, bytes, type(None))):
            refuses(load_config, document, "config")

    try_cases(check, 1000, DOCUMENTS)


def test_the_command_line_reads_a_configuration_or_refuses_it(tmp_path):
    path = tmp_path / "config.yaml"

    def check(document: Any) -> None:
        written(path, document)
        read = refuses(lambda path: read_train(["--config", str(path), "--device", "cpu"]), path, "")
        assert read is None or isinstance(read[0], Config)

    try_cases(check, 200, scraped(VALID) | DOCUMENTS)


# Scores and weights


def svr(folder: Path, vectors: int = 3) -> tuple[Path, str, str]:
    """A small model in OpenCV's format: the first file, its text and that of its ranges."""
    numbers = np.random.default_rng(0).random((vectors, 36)).round(3)
    rows = "".join(f"      - [ {', '.join(map(str, row))} ]\n" for row in numbers)
    weights = ", ".join(f"{weight}." for weight in range(vectors))
    model = (
        "%YAML:1.0\n---\nopencv_ml_svm:\n   format: 3\n   svmType: EPS_SVR\n   kernel:\n      type: RBF\n"
        f"      gamma: 5.0e-02\n   var_count: 36\n   sv_total: {vectors}\n   support_vectors:\n{rows}"
        f"   decision_functions:\n      -\n         sv_count: {vectors}\n         rho: -5.7e+01\n"
        f"         alpha: [ {weights} ]\n"
    )
    span = ", ".join(["0."] * 36 + ["1."] * 36)
    ranges = f"%YAML:1.0\n---\nrange: !!opencv-matrix\n   rows: 2\n   cols: 36\n   dt: f\n   data: [ {span} ]\n"
    path = folder / "small_model.yml"
    path.write_text(model)
    (folder / "small_range.yml").write_text(ranges)
    return path, model, ranges


def test_the_svr_reader_reads_or_refuses(tmp_path):
    path, model, ranges = svr(tmp_path)
    image = torch.rand(1, 3, 32, 32)
    assert brisque(image, load_brisque_model(path)).shape == (1,)
    whole = {"model": model.encode(), "range": ranges.encode()}
    texts = st.tuples(st.just("model"), scraped(model)) | st.tuples(st.just("range"), scraped(ranges))

    def check(case: tuple[str, bytes | str]) -> None:
        name, content = case
        files = dict(whole)
        files[name] = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        for part, data in files.items():
            (tmp_path / f"small_{part}.yml").write_bytes(data)
        read = refuses(load_brisque_model, path, "BRISQUE model")
        assert read is None or brisque(image, read).shape == (1,)

    try_cases(check, 1500, texts | damaged(whole))


def test_the_svr_reader_reads_or_refuses_the_published_model_damaged(tmp_path, rgsud_data):
    whole = {"model": (rgsud_data / "iqa/brisque_model_live.yml").read_bytes()}
    (tmp_path / "live_range.yml").write_bytes((rgsud_data / "iqa/brisque_range_live.yml").read_bytes())

    def check(case: tuple[str, bytes]) -> None:
        (tmp_path / "live_model.yml").write_bytes(case[1])
        refuses(load_brisque_model, tmp_path / "live_model.yml", "BRISQUE model")

    try_cases(check, 40, damaged(whole))


def test_weights_scorers_and_checkpoints_are_read_or_refused(tmp_path):
    """Files of this package's own, and NIQE's parameters, damaged; headers and pickles are text and opcodes."""
    save_network(tmp_path / "weights.safetensors", Derainer(2, [1], 1, [1]), "derainer")
    save_scorer(
        NiqeScorer(NiqeModel(torch.zeros(36).double(), torch.eye(36).double())), tmp_path / "scorer.safetensors"
    )
    np.savez(tmp_path / "niqe.npz", mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    save_checkpoint(
        tmp_path / "checkpoint.pt", {name: kind() for name, kind in FIELDS.items()} | {"tensor": torch.rand(3)}
    )
    readers = {
        "weights.safetensors": load_network,
        "scorer.safetensors": load_scorer,
        "niqe.npz": load_niqe_model,
        "checkpoint.pt": load_checkpoint,
    }
    whole = {name: (tmp_path / name).read_bytes() for name in readers}
    for name, read in readers.items():
        read(tmp_path / name)

    def check(case: tuple[str, bytes]) -> None:
        (tmp_path / case[0]).write_bytes(case[1])
        refuses(readers[case[0]], tmp_path / case[0], case[0])

    try_cases(check, 2000, damaged(whole))
