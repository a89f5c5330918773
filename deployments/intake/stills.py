"""Stills of finished videos: made once, by few at a time, and kept in memory while they are asked for.

Takes an artifact, gives the bytes of a picture. A still is known by its video's digest, so it never grows old.
"""

import asyncio
import io
from collections import OrderedDict

from deployments.bulkheads import Bulkhead
from deployments.errors import InvalidRequestError
from deployments.files.store import Artifact, ArtifactStore

_KEPT_BYTES = 32 * 2**20

Still = tuple[bytes, str]
"""A picture and its media type."""


class Stills:
    """One for each ingress replica."""

    def __init__(self, store: ArtifactStore, at_decoder: Bulkhead) -> None:
        self._store, self._at_decoder = store, at_decoder
        self._kept: OrderedDict[tuple[str, str], Still] = OrderedDict()  # the last used at the end
        self._making: dict[tuple[str, str], asyncio.Task[Still]] = {}

    async def get(self, artifact: Artifact, variant: str) -> Still:
        """The `thumbnail` or `spritesheet` of a video.

        Raises:
            InvalidRequestError: there is no such thing of a picture.
            UnavailableError: the decoder has too much to do, or the store does not answer.
        """
        key = artifact.sha256, variant
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._making:
            self._making[key] = asyncio.create_task(self._make(key, artifact))
        return await asyncio.shield(self._making[key])

    async def _make(self, key: tuple[str, str], artifact: Artifact) -> Still:
        try:
            made = await self._at_decoder.run(_decoded, artifact, self._store, key[1])
        finally:
            del self._making[key]
        self._kept[key] = made
        while sum(len(data) for data, _ in self._kept.values()) > _KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return made


def _decoded(artifact: Artifact, store: ArtifactStore, variant: str) -> Still:
    from stages.sheets import sheet_png, thumbnail_webp  # only who asks for one pays for the decoder

    if variant != "thumbnail" and artifact.media_type.startswith("image/"):
        raise InvalidRequestError(
            "This job ended with one picture, of which there is no sheet; ask for the variant 'video' or 'thumbnail'.",
            param="variant",
            code="invalid_parameter",
        )
    file = io.BytesIO(b"".join(store.read(artifact.key, 0, artifact.size_bytes)))
    return (thumbnail_webp(file), "image/webp") if variant == "thumbnail" else (sheet_png(file), "image/png")
