"""The asynchronous client: performs the effects of the flows with httpx in an event loop.

The verbs, arguments, results and errors are those of `client.py`. Pieces of a download are written in the event loop:
one takes microseconds. `transport`, `sleep` and `clock` are the seams.
"""

import asyncio
import inspect
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from ..schema import DeletedVideo, Event, Health, Order, Pools, Status, Variant, Video, VideoList
from . import flows
from .download import OnBytes, download
from .events import EventStream
from .job_options import CreateOptions, ExtendOptions, InterpolateOptions, RemixOptions, UpscaleOptions
from .options import DEFAULT_TIMEOUT_S, base_url_of, headers_of, open_http, retries_of, timeout_of
from .requests import (
    cancel_request,
    continue_request,
    create_request,
    delete_request,
    extend_request,
    interpolate_request,
    list_request,
    pools_request,
    remix_request,
    retrieve_request,
    upscale_request,
)
from .shared import Reply, Request, error_of, next_page
from .streaming import SILENCE_S, Spout, Target, check_streamed, stream_error, stream_request
from .studies import AsyncStudies
from .uploads import VideoInput

T = TypeVar("T")


class AsyncClient:
    """A connection to one server, for asyncio. Arguments and errors as for `Client`; `on_progress` may be async too."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url_of(base_url)
        self._context = flows.Context(self.base_url, retries_of(max_retries), clock, time.time, random.random)
        self._sleep = sleep
        self._http = open_http(httpx.AsyncClient, self.base_url, headers_of(api_key), timeout_of(timeout_s), transport)
        self.videos = AsyncVideos(self)
        self.studies = AsyncStudies(self._run, self._context)

    async def health(self) -> Health:
        """How the server is, at once and without retries."""
        return await self._run(flows.health(self._context))

    async def pools(self) -> Pools:
        """What runs and waits at every stage right now."""
        return await self._run(flows.call(self._context, pools_request(), Pools))

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def _run(self, flow: flows.Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    answer = await self._perform(effect)
                except httpx.RequestError as failure:
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()  # also after a cancellation: a flow cleans up behind itself

    async def _perform(self, effect: flows.Effect) -> Reply | None:
        match effect:
            case flows.Pause(seconds):
                await self._sleep(seconds)
            case flows.Notify(listener, video):
                told = listener(video)
                if inspect.isawaitable(told):
                    await told
            case Request():
                return await self._send(effect)
        return None

    def _open(self, request: Request) -> AbstractAsyncContextManager[httpx.Response]:
        return self._http.stream(request.method, self.base_url + request.path, **request.arguments)

    async def _send(self, request: Request) -> Reply:
        async with self._open(request) as response:
            head = Reply(response.status_code, response.headers)
            if request.sink is None or not head.ok:
                return Reply(head.status, head.headers, await response.aread())
            take = request.sink(head)
            async for chunk in response.aiter_raw():
                take(chunk)
            return head


class AsyncVideos:
    """`client.videos`: the jobs of the server and their videos. See `Videos` for what each verb raises."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def _call(self, request: Request) -> Video:
        return await self._client._run(flows.call(self._client._context, request, Video))

    async def create(self, prompt: str, **options: Unpack[CreateOptions]) -> Video:
        """Start a job. What is left out is the preset's; `seed` is drawn by the server. Options: `CreateOptions`."""
        return await self._call(create_request(prompt, options))

    async def remix(self, video_id: str, prompt: str | None = None, **options: Unpack[RemixOptions]) -> Video:
        """Start a new job from an old one: the stages before `from_stage` are taken over. Options: `RemixOptions`."""
        return await self._call(remix_request(video_id, prompt, options))

    async def extend(self, video_id: str, prompt: str | None = None, **options: Unpack[ExtendOptions]) -> Video:
        """Start a new job whose video goes on from the end of a completed one. Options: `ExtendOptions`."""
        return await self._call(extend_request(video_id, prompt, options))

    async def continue_(self, video_id: str, *, candidate: int = 0) -> Video:
        """Let a job go on that `pause_after` holds, from the `candidate`-th of T2I's pictures."""
        return await self._call(continue_request(video_id, candidate))

    async def upscale(self, video: VideoInput, prompt: str | None = None, **options: Unpack[UpscaleOptions]) -> Video:
        """Start a job that redraws a video in high resolution: `create` with `enter="v2v"`."""
        return await self._call(upscale_request(video, prompt, options))

    async def interpolate(
        self, video: VideoInput, factor: int = 2, prompt: str | None = None, **options: Unpack[InterpolateOptions]
    ) -> Video:
        """Start a job that makes `factor` frames of every frame of a video: `create` with `enter="vfi"`."""
        return await self._call(interpolate_request(video, factor, prompt, options))

    async def retrieve(self, video_id: str) -> Video:
        """The job as it is now."""
        return await self._call(retrieve_request(video_id))

    async def list(
        self,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Order | None = None,
        search: str | None = None,
        status: Sequence[Status] | None = None,
    ) -> VideoList:
        """One page of jobs, newest first unless `order="asc"`; `limit` is at most 100.

        With `search`, words of the prompt, or `status`, those that fit; such a page may be short while `has_more`.
        """
        request = list_request(after, limit, order, search, status)
        return await self._client._run(flows.call(self._client._context, request, VideoList))

    async def iterate(
        self,
        *,
        after: str | None = None,
        page_size: int | None = None,
        order: Order | None = None,
        search: str | None = None,
        status: Sequence[Status] | None = None,
    ) -> AsyncIterator[Video]:
        """All jobs, or those that fit, page by page as they are asked for."""
        while True:
            page = await self.list(after=after, limit=page_size, order=order, search=search, status=status)
            for video in page.data:
                yield video
            after = next_page(page)
            if after is None:
                return

    async def wait(
        self, video_id: str, *, timeout_s: float | None = None, on_progress: Callable[[Video], Any] | None = None
    ) -> Video:
        """Poll until the video is there, or the job pauses; every answer goes to `on_progress`, which may be async."""
        return await self._client._run(flows.wait(self._client._context, video_id, timeout_s, on_progress))

    async def events(self, video_id: str, *, after: int | None = None) -> AsyncIterator[Event]:
        """What happens to a job, as it happens, from the beginning or behind the event `after`; ends with the job."""
        client = self._client
        stream = EventStream(client._context, video_id, after)
        while not stream.is_over():
            request = stream.open()
            try:
                async with client._open(request) as answer:
                    if answer.status_code != 200:
                        refusal = Reply(answer.status_code, answer.headers, await answer.aread())
                        pause_s = stream.refused(refusal, request)
                    else:
                        async for data in answer.aiter_bytes():
                            for event in stream.feed(data):
                                yield event
                        if stream.is_over():
                            return
                        pause_s = stream.broken(None, request)
            except httpx.TransportError as failure:
                pause_s = stream.broken(failure, request)
            await client._sleep(pause_s)

    async def download(
        self,
        video_id: str,
        path: str | os.PathLike[str],
        *,
        on_bytes: OnBytes | None = None,
        variant: Variant = "video",
        candidate: int | None = None,
    ) -> Path:
        """The mp4, or another `variant` of it, as the file `path`, which is replaced once every byte is there."""
        return await self._client._run(download(self._client._context, video_id, path, on_bytes, variant, candidate))

    async def stream_to(
        self,
        video_id: str,
        target: Target,
        *,
        on_bytes: Callable[[int], object] | None = None,
        silence_s: float = SILENCE_S,
    ) -> int:
        """The video while it is made, into a file or anything that has `write`; the bytes written, once complete."""
        with Spout(target) as spout:
            async with aclosing(self._pieces(video_id, silence_s)) as pieces:
                async for piece in pieces:
                    spout.write(piece)
                    if on_bytes is not None:
                        on_bytes(spout.done)
        return spout.done

    async def _pieces(self, video_id: str, silence_s: float) -> AsyncGenerator[bytes]:
        client, request = self._client, stream_request(video_id, silence_s)
        try:
            async with client._open(request) as answer:
                head = Reply(answer.status_code, answer.headers)
                if not head.ok:
                    refusal = Reply(head.status, head.headers, await answer.aread())
                    raise error_of(refusal, client.base_url, client._context.now())
                check_streamed(head)
                async for piece in answer.aiter_bytes():
                    yield piece
        except httpx.TransportError as failure:
            raise stream_error(failure, request, client.base_url, silence_s) from failure

    async def cancel(self, video_id: str) -> Video:
        """Stop an unfinished job; it stays, and ends as failed with the code "cancelled".

        Raises:
            NotFoundError: there is no such video.
            ConflictError: it has already ended otherwise.
        """
        return await self._call(cancel_request(video_id))

    async def delete(self, video_id: str) -> DeletedVideo:
        """Cancel the job if it is not finished (it then ends as failed, code "cancelled"), else remove it."""
        return await self._client._run(flows.call(self._client._context, delete_request(video_id), DeletedVideo))

    async def create_and_wait(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Video], Any] | None = None,
        **options: Unpack[CreateOptions],
    ) -> Video:
        """`create` with its options, then `wait`."""
        video = await self.create(prompt, **options)
        return await self._client._run(flows.wait(self._client._context, video.id, timeout_s, on_progress, video))
