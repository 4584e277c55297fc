"""What of a video is no picture or sound: damaged packets, its description, and the pixel format of what is written."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.format import VideoFormat

MOST_IN_A_ROW = 1000  # damaged packets after which the rest of a file is given up
BLOCK = 16  # pixels on a side, of which formats tell how many of colour they keep


class Damaged:
    """The packets of a video that are passed over.

    Args:
        name: of the video, for the warning.
    """

    def __init__(self, name: str) -> None:
        self.name, self.count, self.late = name, 0, 0
        self._cut = False
        self._last: int | None = None  # time of the last frame, in the stream's ticks

    def packets(self, source: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
        """The packets of these streams; where the container itself is damaged, those after the damage."""
        from av import FFmpegError

        row = 0
        while row < MOST_IN_A_ROW:
            try:
                for packet in source.demux(list(streams)):
                    row = 0
                    yield packet
                return
            except FFmpegError:
                self.count, row = self.count + 1, row + 1
        self._cut = True

    def decode(self, packet: Packet) -> list[Any]:
        """The frames of a packet that are to be shown after those before; none of a damaged one.

        After damage decoders give frames late, which no encoder would take any more.
        """
        from av import FFmpegError

        try:
            frames = list(packet.decode())
        except FFmpegError:
            self.count += 1
            return []
        kept = []
        for frame in frames:
            if self._last is None or frame.pts is None or frame.pts > self._last:
                kept.append(frame)
                self._last = self._last if frame.pts is None else frame.pts
            else:
                self.late += 1
        return kept

    def tell(self) -> None:
        """Warn of what was passed over."""
        late = f", {self.late} frames out of order" if self.late else ""
        end = ", and what follows" if self._cut else ""
        if self.count or late:
            warnings.warn(f"{self.name}: left out are {self.count} damaged packets{late}{end}", stacklevel=2)


def keep_metadata(source: InputContainer, written: OutputContainer) -> None:
    """Carry title, date, place and chapters over, as far as the container takes them."""
    written.metadata.update(source.metadata)
    with contextlib.suppress(AttributeError, ValueError, TypeError):  # an older PyAV, or damaged chapters
        written.set_chapters(source.chapters())


def nearest_format(wanted: VideoFormat, formats: Sequence[str], width: int, height: int) -> tuple[str, list[str]]:
    """The pixel format of an encoder that keeps the most of another one, in frames of this size.

    Args:
        wanted: what the frames are.
        formats: the encoder's, by name; none where it tells nothing, and then the wanted one is taken.
        width, height: of the frames, pixels. Odd ones need colour at each pixel that way.

    Returns:
        Its name, and what it cannot keep, in words.
    """
    from av.video.format import VideoFormat

    if not formats:
        return wanted.name, []
    known = [VideoFormat(name, BLOCK, BLOCK) for name in formats]
    fitting = [one for one in known if _fits(one, width, height)] or known
    deep, colour = bits(wanted), _chroma(wanted)

    def loss(one: VideoFormat) -> tuple[Any, ...]:
        less = [max(a - b, 0) for a, b in zip(colour, _chroma(one), strict=True)]
        more = bits(one) - deep + sum(_chroma(one)) - sum(colour) + has_alpha(one) - has_alpha(wanted)
        lost = (has_alpha(wanted) and not has_alpha(one), max(deep - bits(one), 0), sum(less))
        return (*lost, one.name != wanted.name, more, one.is_rgb != wanted.is_rgb)

    best = min(fitting, key=loss)
    alpha, depth, chroma = loss(best)[:3]
    told = [f"depth ({deep} bits; {bits(best)} are written)"] if depth else []
    told += ["all of the colour's resolution"] if chroma else []
    return best.name, (["transparency"] if alpha else []) + told


def bits(kind: VideoFormat) -> int:
    """Of the deepest channel."""
    return max((component.bits for component in kind.components), default=8)


def has_alpha(kind: VideoFormat) -> bool:
    """Whether pixels may be transparent."""
    return any(component.is_alpha for component in kind.components)


def _chroma(kind: VideoFormat) -> tuple[int, int]:
    """Columns and rows of colour in a block."""
    if kind.is_rgb or not any(component.is_chroma for component in kind.components):
        return BLOCK, BLOCK
    return kind.chroma_width(BLOCK), kind.chroma_height(BLOCK)


def _fits(kind: VideoFormat, width: int, height: int) -> bool:
    across, down = _chroma(kind)
    return (width % 2 == 0 or across == BLOCK) and (height % 2 == 0 or down == BLOCK)
