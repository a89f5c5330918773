"""A video as one fragmented mp4 while its chunks are being made: packets are moved, nothing is decoded.

Takes chunks (closed groups of pictures in an mp4 each, see `deployments.files.mp4`), one after the other; gives bytes:
the header with the first chunk, then fragments whose times go on where those before end. A player or Media Source
Extensions can begin after the first bytes. Knows nothing of HTTP or jobs.
"""

import io

import av

from deployments.files.mp4 import EncodedChunk

_FLAGS = "empty_moov+default_base_moof+frag_keyframe"
_KEPT = (b"ftyp", b"moov", b"moof", b"mdat")


class Fragments:
    """One stream."""

    def __init__(self) -> None:
        self._frames = 0
        self._numbers = 1  # of the next fragment

    def add_rest(self, whole: EncodedChunk) -> bytes:
        """The bytes of a whole video from where the chunks so far have ended."""
        return self.add(whole, skip=self._frames)

    def add(self, chunk: EncodedChunk, skip: int = 0) -> bytes:
        """The bytes of the next chunk, without its first `skip` frames; after them a group of pictures begins."""
        buffer = io.BytesIO()
        options = {"movflags": _FLAGS, "fragment_index": str(self._numbers), "fflags": "+bitexact"}
        with av.open(buffer, "w", format="mp4", options=options) as out, av.open(io.BytesIO(chunk.data)) as part:
            source = part.streams.video[0]
            target = out.add_stream_from_template(source)
            target.time_base = source.time_base
            packets = [packet for packet in part.demux(source) if packet.dts is not None and packet.pts is not None]
            origin = packets[skip].dts - packets[0].dts  # the packet at the end, without times, only flushes
            for packet in packets[skip:]:
                packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
                packet.stream = target
                out.mux(packet)
            base = target.time_base
            assert base is not None
            start = round(self._frames / chunk.fps / base)
        boxes = split_boxes(buffer.getvalue())
        first = self._frames == 0
        wanted = [box for box in boxes if box[4:8] in _KEPT and (first or box[4:8] in (b"moof", b"mdat"))]
        wanted = [_moved(box, start) if box[4:8] == b"moof" else box for box in wanted]
        self._frames += chunk.frames - skip
        self._numbers += sum(box[4:8] == b"moof" for box in wanted)
        return b"".join(wanted)


def codec_of(data: bytes) -> str:
    """What the first bytes of a stream hold, as RFC 6381 writes it and browsers ask for it: "avc1.64000d"."""
    at = data.index(b"avcC") + 5  # behind the version: profile, compatibility, level
    return f"avc1.{data[at : at + 3].hex()}"


def _moved(moof: bytes, start: int) -> bytes:
    """A fragment shown `start` later: the muxer begins each of its files at 0."""
    at = moof.index(b"tfdt") + 4
    version = moof[at]
    width = 8 if version == 1 else 4
    body = at + 4
    moment = int.from_bytes(moof[body : body + width], "big") + start
    return moof[:body] + moment.to_bytes(width, "big") + moof[body + width :]


def split_boxes(data: bytes) -> list[bytes]:
    """The boxes at the top level of an mp4."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        size = size or len(data) - at
        boxes.append(data[at : at + size])
        at += size
    return boxes
