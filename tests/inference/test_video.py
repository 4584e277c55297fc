"""Videos: size, time stamps, depth, colours and sound come through, and what cannot be done is told in one line."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from rgsud_fast import cli
from rgsud_fast.errors import UserError
from rgsud_fast.inference.derain import derain
from rgsud_fast.networks import NAFNet
from rgsud_fast.networks.weights import save_network

av = pytest.importorskip("av")
CLOCK = Fraction(1, 90_000)
TIMES = [0, 3003, 9009, 12012, 18018, 27027]  # in ticks of the clock: frames of several lengths
COLOURS = np.array([[200, 40, 60], [30, 180, 90], [60, 60, 210], [240, 240, 240], [20, 20, 20], [120, 130, 140]])


class Same(nn.Module):
    def forward(self, image):
        return image


class Darker(nn.Module):
    def forward(self, image):
        return image / 2


def film(
    path: Path, codec: str = "libx264", pix_fmt: str = "yuv420p", sound: str | None = "aac", turn: int = 0
) -> Path:
    """A film of six frames of one colour each, in BT.709 colours, with noise for a sound track."""
    with av.open(str(path), "w") as file:
        video = file.add_stream(codec, rate=30, options={"crf": "4"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = 64, 48, pix_fmt
        video.codec_context.time_base = CLOCK
        video.codec_context.colorspace = video.codec_context.color_primaries = video.codec_context.color_trc = 1
        video.codec_context.color_range = 1
        if turn:
            video.set_display_rotation(turn)
        if sound:
            audio = file.add_stream(sound, rate=48_000, layout="mono")
        for time, colour in zip(TIMES, COLOURS, strict=True):
            pixels = np.broadcast_to(colour.astype(np.uint8), (48, 64, 3)).copy()
            pixels[:24, :32] //= 2
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format=pix_fmt, dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = time, CLOCK
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound:
            waves = np.random.default_rng(0).normal(0, 0.1, (1, 1024)).astype(np.float32)
            for i in range(12):
                frame = av.AudioFrame.from_ndarray(waves, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = 48_000, 1024 * i
                file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return path


def seen(path: Path) -> tuple[list[float], np.ndarray]:
    """The seconds at which frames are shown, and their pixels, [frames, H, W, 3]."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        return [float(f.pts * f.time_base) for f in frames], np.stack([f.to_ndarray(format="rgb24") for f in frames])


def heard(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as file:
        return [(packet.pts, bytes(packet)) for packet in file.demux(audio=0) if packet.dts is not None]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_keeps_its_size_its_time_stamps_its_colours_and_its_sound(tmp_path, suffix):
    source = film(tmp_path / f"rain{suffix}")
    (written,) = derain(Same(), source, tmp_path / f"out{suffix}")
    (times, before), (times_after, after) = seen(source), seen(written)
    assert times_after == times
    assert after.shape == before.shape == (6, 48, 64, 3)
    assert np.abs(after.astype(int) - before).max() <= 8  # at edges; half-resolution colours are blurred twice
    assert np.abs(after.astype(int) - before)[:, 30:, 40:].max() <= 3
    assert heard(written) == heard(source)
    with av.open(str(written)) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)


def test_every_frame_is_derained(tmp_path):
    source = film(tmp_path / "rain.mp4", sound=None)
    counted = []
    derain(Darker(), source, tmp_path / "out.mp4", watch=lambda *seen: counted.append(seen))
    assert np.abs(seen(tmp_path / "out.mp4")[1].astype(int)[:, 30:, 40:] - COLOURS[:, None, None] / 2).max() <= 5
    assert counted == [(i, 6, "rain.mp4") for i in range(1, 7)]


def test_a_lossless_film_is_derained_in_its_depth(tmp_path):
    source = film(tmp_path / "rain.mkv", "ffv1", "gbrp10le", sound=None)
    derain(Same(), source, tmp_path / "out.mkv")
    films = []
    for path in (source, tmp_path / "out.mkv"):
        with av.open(str(path)) as file:
            assert file.streams.video[0].codec_context.name == "ffv1"
            films.append([frame.to_ndarray(format="gbrp10le") for frame in file.decode(video=0)])
    assert np.array_equal(*films)


def test_frames_that_a_phone_turned_stand_upright(tmp_path):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a turned film")
    source = film(tmp_path / "rain.mp4", turn=90)
    derain(Same(), source, tmp_path / "out.mp4")
    after = seen(tmp_path / "out.mp4")[1]
    assert after.shape == (6, 64, 48, 3)
    upright = np.rot90(seen(source)[1], 1, axes=(1, 2))
    assert np.abs(after.astype(int) - upright).mean() < 3


def test_another_container_takes_another_codec_and_says_what_it_leaves_out(tmp_path):
    source = film(tmp_path / "rain.mp4")
    with pytest.warns(UserWarning, match="webm cannot hold aac sound"):
        derain(Same(), source, tmp_path / "out.webm")
    times, frames = seen(tmp_path / "out.webm")
    assert times == pytest.approx(seen(source)[0], abs=1e-3)  # its clock has milliseconds
    assert frames.shape == (6, 48, 64, 3)


def test_a_folder_takes_the_name_and_an_avi_becomes_an_mp4(tmp_path):
    source = film(tmp_path / "rain.mp4", sound=None)
    assert derain(Same(), source, tmp_path / "out") == [tmp_path / "out" / "rain.mp4"]
    with av.open(str(tmp_path / "rain.avi"), "w") as file:
        video = file.add_stream("mjpeg", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuvj420p"
        for _ in range(3):
            file.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8))))
        file.mux(video.encode(None))
    (written,) = derain(Same(), tmp_path / "rain.avi", tmp_path / "from_avi")
    assert written == tmp_path / "from_avi" / "rain.mp4"
    assert seen(written)[0] == pytest.approx([0, 0.04, 0.08])


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Frames are derained, encoded and let go: at no time are many alive."""
    import weakref

    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    class Watched(nn.Module):
        def forward(self, image):
            nonlocal most
            alive.add(image)
            most = max(most, len(alive))
            return image.clone()

    derain(Watched(), film(tmp_path / "rain.mp4", sound=None), tmp_path / "out.mp4")
    assert most <= 2


def test_mistakes_are_told(tmp_path, monkeypatch):
    source = film(tmp_path / "rain.mp4", sound=None)
    with pytest.raises(UserError, match=r"nowhere\.mp4: no such file"):
        derain(Same(), tmp_path / "nowhere.mp4", tmp_path / "out.mp4")
    with pytest.raises(UserError, match=r"name the video to write"):
        derain(Same(), source)
    with pytest.raises(UserError, match=r"out\.avi: cannot write this format"):
        derain(Same(), source, tmp_path / "out.avi")
    with pytest.raises(UserError, match="would be overwritten"):
        derain(Same(), source, source)
    (tmp_path / "broken.mp4").write_bytes(b"no film" * 100)
    with pytest.raises(UserError, match=r"broken\.mp4: cannot be derained"):
        derain(Same(), tmp_path / "broken.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "song.mp4"), "w") as file:
        audio = file.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        file.mux(audio.encode(frame))
        file.mux(audio.encode(None))
    with pytest.raises(UserError, match=r"song\.mp4: no pictures"):
        derain(Same(), tmp_path / "song.mp4", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[video\]'"):
        derain(Same(), source, tmp_path / "out.mp4")


def test_the_command_takes_a_video(tmp_path, capsys):
    save_network(tmp_path / "run" / "derainer.safetensors", NAFNet(4, [1], 1, [1]), "derainer")
    source, target = film(tmp_path / "rain.mp4"), tmp_path / "out.mp4"
    assert cli.main(["derain", str(tmp_path / "run"), str(source), str(target), "--device", "cpu"]) == 0
    assert f"wrote 1 video to {target}" in capsys.readouterr().out
    assert len(seen(target)[0]) == 6


def test_a_damaged_packet_is_left_out_and_counted(tmp_path):
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        rng, (y, x) = np.random.default_rng(0), np.mgrid[:64, :96]
        for time in range(60):
            waves = 120 + 60 * np.sin(x / 9 + time) + 50 * np.cos(y / 7 + time) + rng.normal(0, 4, x.shape)
            pixels = np.repeat(waves.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(video.encode(None))
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 900] = rng.integers(0, 256, 900, dtype=np.uint8).tobytes()
    (tmp_path / "dashcam.mp4").write_bytes(content)
    with pytest.warns(UserWarning, match=r"dashcam\.mp4: left out are \d+ damaged packets"):
        derain(Same(), tmp_path / "dashcam.mp4", tmp_path / "out.mp4")
    assert 60 - 10 <= len(seen(tmp_path / "out.mp4")[0]) <= 60  # at most one group of ten is lost


def picture_in(path: Path, codec: str, pix_fmt: str, size: tuple[int, int], **metadata: str) -> Path:
    """A film of two frames, half transparent where the format can be, with that description."""
    with av.open(str(path), "w") as file:
        file.metadata.update(metadata)
        video = file.add_stream(codec, rate=25)
        video.height, video.width, video.pix_fmt = *size, pix_fmt
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), dtype=np.uint8)
        pixels[..., 3] = 99
        for time in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time, Fraction(1, 25)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    return path


@pytest.mark.parametrize(
    "name, codec, pix_fmt, size, written",
    [
        ("alpha.mkv", "ffv1", "bgra", (48, 64), "bgra"),
        ("studio.mov", "prores_ks", "yuva444p10le", (48, 64), "yuva444p12le"),  # as its decoder calls it
        ("screen.mp4", "libx264rgb", "rgb24", (49, 63), "gbrp"),
        ("odd.avi", "mjpeg", "yuvj422p", (49, 63), "yuvj444p"),
        ("tape.ts", "libx264", "yuv420p", (48, 64), "yuv420p"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*cannot keep depth")
def test_depth_colour_and_transparency_are_kept_and_odd_sizes_written(tmp_path, name, codec, pix_fmt, size, written):
    path = picture_in(tmp_path / name, codec, pix_fmt, size)
    (out,) = derain(Same(), path, tmp_path / "out")
    with av.open(str(out)) as file:
        frames = list(file.decode(video=0))
    assert [(frame.format.name, frame.height, frame.width) for frame in frames] == [(written, *size)] * 2
    if "a" in pix_fmt.removeprefix("yuv"):
        assert abs(frames[0].to_ndarray(format="rgba")[..., 3].mean() - 99) < 1.5


def test_what_an_encoder_cannot_keep_is_told(tmp_path):
    path = picture_in(tmp_path / "a.mov", "prores_ks", "yuva444p10le", (48, 64))
    with pytest.warns(UserWarning, match=r"libx264 cannot keep transparency, depth \(12 bits; 10 are written\)"):
        derain(Same(), path, tmp_path / "a.mp4")


def test_title_date_and_place_are_carried_over(tmp_path):
    said = {"title": "t", "creation_time": "2024-05-06T07:08:09.000000Z", "location": "+10.0000+020.0000/"}
    path = picture_in(tmp_path / "a.mp4", "libx264", "yuv420p", (48, 64), **said)
    (out,) = derain(Same(), path, tmp_path / "out")
    with av.open(str(out)) as file:
        assert said.items() <= file.metadata.items()
