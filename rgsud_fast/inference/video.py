"""Videos: derained frame by frame by PyAV, with size, time stamps and sound as they were, in bounded memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np

from ..data import Photo
from ..errors import UserError, install
from ..networks.toolbox import Chain
from ..system.files import replacing
from .video_streams import Damaged, bits, has_alpha, keep_metadata, nearest_format

if TYPE_CHECKING:
    from fractions import Fraction

    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .inputs import ImageWatch
    from .tiled_network import TiledNetwork

_WRITTEN = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})  # containers whose frames have time stamps
SUFFIXES = _WRITTEN | {".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".3gp", ".flv", ".ogv"}
# The encoder of each codec that keeps any time stamps, and what makes its losses hard to see.
_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}
_QUALITY = {"libx264": {"crf": "16"}, "libx265": {"crf": "18"}, "libsvtav1": {"crf": "20"}}
_RGB = {  # what frames are as arrays: by depth beyond 8 bits, and transparency
    (False, False): "rgb24",
    (True, False): "rgb48le",
    (False, True): "rgba",
    (True, True): "rgba64le",
}
_QUALITY |= {name: {"crf": "18", "b": "0"} for name in ("libvpx", "libvpx-vp9")}


def is_video(images: Any) -> TypeGuard[str | Path]:
    """Whether a user's images are the path of a video file."""
    return isinstance(images, (str, Path)) and Path(images).suffix.lower() in SUFFIXES and not Path(images).is_dir()


def derain_video(
    network: TiledNetwork, path: str | Path, output: str | Path | None, watch: ImageWatch | None = None
) -> Path:
    """Derain every frame of a video.

    Its codec is kept where it can be written, else the container's usual one is taken, at a quality whose losses are
    hard to see; so are the size, frame rate, time stamps, depth, transparency, colour space, title, date, place and
    chapters, and the sound, which is copied as it is. Frames that a phone marked as turned are turned. What the codec
    written cannot hold is told by a warning, and so are damaged packets, which are left out.

    Args:
        network: the derainer.
        path: the video.
        output: name of the video to write, or a folder, which takes the name of the input.
        watch: called after each frame: frames done, frames in all as far as the file says, name of the video.

    Returns:
        The path written.

    Raises:
        UserError: PyAV is missing, the video cannot be read, or not be written under that name.
    """
    path = Path(path)
    if isinstance(network.network, Chain):
        raise UserError(f"{path}: a toolbox is for photographs: each frame would get a chain of its own, and flicker")
    if output is None:
        raise UserError(f"{path}: a video is not held in memory; name the video to write")
    target = Path(output)
    if not target.suffix or target.is_dir():
        target = target / (path.name if path.suffix.lower() in _WRITTEN else f"{path.stem}.mp4")
    if target.suffix.lower() not in _WRITTEN:
        raise UserError(f"{target}: cannot write this format; end the name in {' or '.join(sorted(_WRITTEN))}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give an image, a video or a folder of images")
    if target.resolve() == path.resolve():
        raise UserError(f"{target} is the input and would be overwritten: give another output")
    try:
        import av
    except ImportError:
        raise UserError(f"{path}: videos need PyAV: {install('video')}") from None
    try:
        with av.open(str(path)) as source, replacing(target) as temporary:
            if not source.streams.video:
                raise UserError(f"{path}: no pictures in this file; give a video")
            with av.open(str(temporary), "w") as written:
                keep_metadata(source, written)
                _copy(network, source, written, path.name, watch)
    except (av.FFmpegError, ValueError) as error:
        raise UserError(f"{path}: cannot be derained as a video into {target.name} ({error})") from None
    return target


def _copy(
    network: TiledNetwork, source: InputContainer, written: OutputContainer, name: str, watch: ImageWatch | None
) -> None:
    video, sound = source.streams.video[0], _sound(source, written)
    video.thread_type = "AUTO"
    count = video.frames or round((source.duration or 0) / 1e6 * (video.average_rate or 0))
    early, encoder, done = [], None, 0  # the header is written with the first packet, when all streams must be known
    damaged = Damaged(name)
    for packet in damaged.packets(source, [video, *sound]):
        if packet.stream is video:
            for frame in cast("list[VideoFrame]", damaged.decode(packet)):
                photo = network.photo(_photo(frame))
                encoder = encoder or _encoder(written, video, frame, photo)
                written.mux(encoder.encode(_frame(photo, frame, encoder)))
                done += 1
                if watch is not None:
                    watch(done, max(count, done), name)
        elif packet.dts is not None:  # what ends a stream in the demultiplexer has none
            packet.stream = sound[packet.stream]
            early.append(packet)
        if encoder:
            written.mux(early)
            early = []
    if encoder is None:
        raise UserError(f"{name}: no frame of this video can be decoded; replace or remove it")
    written.mux(encoder.encode(None))
    written.mux(early)
    damaged.tell()


def _sound(source: InputContainer, written: OutputContainer) -> dict[Stream, AudioStream]:
    """The sound tracks that the container can hold, and the copy of each."""
    held: dict[Stream, AudioStream] = {}
    left = []
    for stream in source.streams.audio:
        if stream.codec.canonical_name in written.supported_codecs:
            held[stream] = written.add_stream_from_template(stream)
        else:
            left.append(stream.codec.canonical_name)
    if left:
        warnings.warn(f"{written.format.name} cannot hold {', '.join(left)} sound: left out", stacklevel=2)
    return held


def _photo(frame: VideoFrame) -> Photo:
    """The frame's pixels, 8 or 16 bits, as they should stand."""
    deep, alpha = bits(frame.format) > 8, has_alpha(frame.format)
    colours = {"src_colorspace": frame.colorspace, "src_color_range": frame.color_range}
    pixels: Any = frame.reformat(format=_RGB[deep, alpha], **colours).to_ndarray()
    pixels = np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
    return Photo(np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3:]) if alpha else None)


def _encoder(written: OutputContainer, video: VideoStream, frame: VideoFrame, photo: Photo) -> VideoStream:
    """The stream that takes the derained frames, as like the original as the container can hold."""
    from av.codec import Codec

    codec = video.codec.canonical_name
    if codec not in _ENCODERS or codec not in written.supported_codecs:
        codec = written.default_video_codec
    codec = _ENCODERS[codec]
    rate, options = video.average_rate or 25, _QUALITY.get(codec, {})
    encoder = cast("VideoStream", written.add_stream(codec, rate=rate, options=options))
    encoder.height, encoder.width = photo.pixels.shape[:2]
    formats = [known.name for known in Codec(codec, "w").video_formats or ()]
    encoder.pix_fmt, lost = nearest_format(frame.format, formats, encoder.width, encoder.height)
    if lost:
        warnings.warn(f"{written.name}: {codec} cannot keep {', '.join(lost)}", stacklevel=2)
    context = encoder.codec_context
    context.time_base = cast("Fraction", video.time_base)
    if video.sample_aspect_ratio:
        context.sample_aspect_ratio = video.sample_aspect_ratio
    context.colorspace, context.color_range = frame.colorspace, frame.color_range
    context.color_primaries, context.color_trc = video.codec_context.color_primaries, video.codec_context.color_trc
    return encoder


def _frame(photo: Photo, original: VideoFrame, encoder: VideoStream) -> VideoFrame:
    """A frame for the encoder, with the original's colour space and time."""
    from av import VideoFrame

    deep, alpha = photo.pixels.dtype == np.uint16, photo.alpha is not None
    pixels = photo.pixels if photo.alpha is None else np.concatenate([photo.pixels, photo.alpha], axis=2)
    frame = VideoFrame.from_ndarray(pixels, format=_RGB[deep, alpha])
    frame = frame.reformat(
        format=encoder.pix_fmt, dst_colorspace=original.colorspace, dst_color_range=original.color_range
    )
    frame.pts, frame.time_base = original.pts, original.time_base
    return frame
