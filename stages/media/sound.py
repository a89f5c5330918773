"""The sound of a file beside the frames that were made of it: copied where MP4 holds its codec, else as AAC."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from stages.media.types import File
from stages.media.videos import opened

_COPIED = ("aac", "mp3", "opus", "ac3", "eac3", "alac")
_RATE = 48000


class Heard:
    """Writes a track into another file, as far as that has come."""

    def __init__(self, out: OutputContainer, packets: Iterator[av.Packet]) -> None:
        self._out, self._packets = out, packets
        self._next: av.Packet | None = None

    def mux_until(self, moment_s: Fraction) -> None:
        """What is heard before that moment of the film."""
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            if packet.pts is not None and packet.pts * packet.time_base >= moment_s:
                return
            self._out.mux(packet)
            self._next = None


@contextmanager
def sound_beside(file: File, out: OutputContainer) -> Iterator[Heard | None]:
    """The best track of `file`, from its first frame on, as a new stream of `out`; None where it has no sound. To be
    called before anything is written to `out`.

    Raises:
        MediaError: the file cannot be read.
    """
    with opened(file) as (container, film):
        track = container.streams.best("audio")
        if not isinstance(track, AudioStream):
            yield None
            return
        begins = (film.start_time or 0) * (film.time_base or Fraction(1))
        copied = track.codec_context.name in _COPIED
        packets = _copied(container, track, out, begins) if copied else _encoded(container, track, out, begins)
        yield Heard(out, packets)


def _copied(
    container: InputContainer, track: AudioStream, out: OutputContainer, begins: Fraction
) -> Iterator[av.Packet]:
    stream = out.add_stream_from_template(track)

    def packets() -> Iterator[av.Packet]:
        for packet in container.demux(track):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            shift = round(begins / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.pts + (packet.duration or 0) > 0:
                packet.stream = stream
                yield packet

    return packets()


def _encoded(
    container: InputContainer, track: AudioStream, out: OutputContainer, begins: Fraction
) -> Iterator[av.Packet]:
    stream = out.add_stream("aac", rate=_RATE)

    def packets() -> Iterator[av.Packet]:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=_RATE)
        for frame in container.decode(track):
            for made in resampler.resample(frame):
                made.pts = None if made.pts is None else made.pts - round(begins * _RATE)
                yield from stream.encode(made)
        yield from stream.encode(None)

    return packets()
