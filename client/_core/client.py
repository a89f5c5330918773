"""The synchronous client: performs the effects of the flows with httpx, one after the other.

`Client` may be shared by threads. `transport`, `sleep` and `clock` are the seams: tests and use within one process
pass their own.
"""

import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
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
from .studies import Studies
from .uploads import VideoInput

T = TypeVar("T")


class Client:
    """A connection to one server.

    Args:
        base_url: its address; else `MAGICVIDEO_URL`, else http://127.0.0.1:8000.
        api_key: sent as a bearer token; else `MAGICVIDEO_API_KEY`, else none is sent.
        timeout_s: how long the server may be silent within one answer.
        max_retries: attempts after the first; a video is never created twice by a retry.
        transport: an httpx transport, for a proxy, a Unix socket or an application in this process.
        sleep, clock: how to pause and how to measure a wait, in seconds.

    Raises:
        InvalidArgumentError: one of them cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url_of(base_url)
        self._context = flows.Context(self.base_url, retries_of(max_retries), clock, time.time, random.random)
        self._sleep = sleep
        self._http = open_http(httpx.Client, self.base_url, headers_of(api_key), timeout_of(timeout_s), transport)
        self.videos = Videos(self)
        self.studies = Studies(self._run, self._context)

    def health(self) -> Health:
        """How the server is, at once and without retries."""
        return self._run(flows.health(self._context))

    def pools(self) -> Pools:
        """What runs and waits at every stage right now."""
        return self._run(flows.call(self._context, pools_request(), Pools))

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def _run(self, flow: flows.Flow[T]) -> T:
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self._perform(effect)
                except httpx.RequestError as failure:
                    effect = flow.throw(failure)
                else:
                    effect = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()  # also after Ctrl-C: a flow cleans up behind itself

    def _perform(self, effect: flows.Effect) -> Reply | None:
        match effect:
            case flows.Pause(seconds):
                self._sleep(seconds)
            case flows.Notify(listener, video):
                listener(video)
            case Request():
                return self._send(effect)
        return None

    def _open(self, request: Request) -> AbstractContextManager[httpx.Response]:
        return self._http.stream(request.method, self.base_url + request.path, **request.arguments)

    def _send(self, request: Request) -> Reply:
        with self._open(request) as response:
            head = Reply(response.status_code, response.headers)
            if request.sink is None or not head.ok:
                return Reply(head.status, head.headers, response.read())
            take = request.sink(head)
            for chunk in response.iter_raw():
                take(chunk)
            return head


class Videos:
    """`client.videos`: the jobs of the server and their videos."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(self, request: Request) -> Video:
        return self._client._run(flows.call(self._client._context, request, Video))

    def create(self, prompt: str, **options: Unpack[CreateOptions]) -> Video:
        """Start a job. What is left out is the preset's; `seed` is drawn by the server. Options: `CreateOptions`.

        `input_reference` is a path, bytes or a `data:` URL; `input_video` may also be an earlier video or its id. Files
        are read into memory at once. Every call sends an idempotency key of its own, so that its retries never make a
        second job; give one to make your own repetitions safe too.

        Raises:
            InvalidArgumentError: it cannot be sent; nothing was.
            BadRequestError: the preset cannot serve it; `.param` names the field.
            RateLimitError: too much is queued.
        """
        return self._call(create_request(prompt, options))

    def remix(self, video_id: str, prompt: str | None = None, **options: Unpack[RemixOptions]) -> Video:
        """Start a new job from an old one: the stages before `from_stage` are taken over, the others run again.

        What is left out stays as it was; without `from_stage` it begins at the first stage that the changes reach.
        Options: `RemixOptions`.

        Raises:
            BadRequestError: nothing would change, or a change reaches no stage that runs.
            ConflictError: outputs of the old job are no longer kept.
        """
        return self._call(remix_request(video_id, prompt, options))

    def extend(self, video_id: str, prompt: str | None = None, **options: Unpack[ExtendOptions]) -> Video:
        """Start a new job whose video begins with a completed one and goes on from its end. Options: `ExtendOptions`.

        Raises:
            BadRequestError: this video cannot be extended.
            ConflictError: it is not completed.
        """
        return self._call(extend_request(video_id, prompt, options))

    def continue_(self, video_id: str, *, candidate: int = 0) -> Video:
        """Let a job go on that `pause_after` holds, from the `candidate`-th of T2I's pictures.

        Sent again only where the server surely did nothing.

        Raises:
            ConflictError: it does not wait to be continued.
        """
        return self._call(continue_request(video_id, candidate))

    def upscale(self, video: VideoInput, prompt: str | None = None, **options: Unpack[UpscaleOptions]) -> Video:
        """Start a job that redraws a video in high resolution: `create` with `enter="v2v"`.

        `video` is a path, bytes, a `data:` URL, or an earlier video or its id; without a prompt that video's is kept.
        """
        return self._call(upscale_request(video, prompt, options))

    def interpolate(
        self, video: VideoInput, factor: int = 2, prompt: str | None = None, **options: Unpack[InterpolateOptions]
    ) -> Video:
        """Start a job that makes `factor` frames of every frame of a video: `create` with `enter="vfi"`."""
        return self._call(interpolate_request(video, factor, prompt, options))

    def retrieve(self, video_id: str) -> Video:
        """The job as it is now."""
        return self._call(retrieve_request(video_id))

    def list(
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
        return self._client._run(flows.call(self._client._context, request, VideoList))

    def iterate(
        self,
        *,
        after: str | None = None,
        page_size: int | None = None,
        order: Order | None = None,
        search: str | None = None,
        status: Sequence[Status] | None = None,
    ) -> Iterator[Video]:
        """All jobs, or those that fit, page by page as they are asked for."""
        while True:
            page = self.list(after=after, limit=page_size, order=order, search=search, status=status)
            yield from page.data
            after = next_page(page)
            if after is None:
                return

    def wait(
        self, video_id: str, *, timeout_s: float | None = None, on_progress: Callable[[Video], Any] | None = None
    ) -> Video:
        """Poll until the video is there, or the job pauses (`paused_after`); every answer goes to `on_progress`.

        Raises:
            VideoFailedError: the job failed or was cancelled.
            WaitTimeoutError: it is not finished after `timeout_s`; it goes on.
        """
        return self._client._run(flows.wait(self._client._context, video_id, timeout_s, on_progress))

    def events(self, video_id: str, *, after: int | None = None) -> Iterator[Event]:
        """What happens to a job, as it happens, from the beginning or behind the event `after`; ends with the job.

        A connection that breaks is opened again where it broke: no event is missed, none comes twice.

        Raises:
            NotFoundError: there is no such video.
            APIConnectionError: the server has been away for a minute.
        """
        client = self._client
        stream = EventStream(client._context, video_id, after)
        while not stream.is_over():
            request = stream.open()
            try:
                with client._open(request) as answer:
                    if answer.status_code != 200:
                        refusal = Reply(answer.status_code, answer.headers, answer.read())
                        pause_s = stream.refused(refusal, request)
                    else:
                        for data in answer.iter_bytes():
                            yield from stream.feed(data)
                        if stream.is_over():
                            return
                        pause_s = stream.broken(None, request)
            except httpx.TransportError as failure:
                pause_s = stream.broken(failure, request)
            client._sleep(pause_s)

    def download(
        self,
        video_id: str,
        path: str | os.PathLike[str],
        *,
        on_bytes: OnBytes | None = None,
        variant: Variant = "video",
        candidate: int | None = None,
    ) -> Path:
        """The mp4, or another `variant` of it, as the file `path`, which is replaced once every byte is there.

        "thumbnail" is a WebP of the first frame, "spritesheet" a PNG of six frames, "keyframe" the PNG that T2I made
        (of several the `candidate`-th), "preview" an mp4 of I2V's frames; the last two are there before the video is.
        A broken connection is resumed where it broke. `on_bytes(done, total)` is told of every piece.

        Raises:
            ConflictError: it is not there yet.
            OutputError: the file cannot be written there.
        """
        return self._client._run(download(self._client._context, video_id, path, on_bytes, variant, candidate))

    def stream_to(
        self,
        video_id: str,
        target: Target,
        *,
        on_bytes: Callable[[int], object] | None = None,
        silence_s: float = SILENCE_S,
    ) -> int:
        """The video while it is made, into a file or anything that has `write`, such as a player's stdin.

        Every piece is playable as soon as it is written (fragmented mp4). Returns the bytes written once the video is
        complete. A broken stream is not resumed; `download` has the whole video. `on_bytes(done)` hears of each.

        Raises:
            ConflictError: the job ended without a video.
            OutputError: it cannot be written there.
            APITimeoutError: the server made nothing for `silence_s` seconds.
        """
        with Spout(target) as spout, closing(self._pieces(video_id, silence_s)) as pieces:
            for piece in pieces:
                spout.write(piece)
                if on_bytes is not None:
                    on_bytes(spout.done)
        return spout.done

    def _pieces(self, video_id: str, silence_s: float) -> Generator[bytes]:
        client, request = self._client, stream_request(video_id, silence_s)
        try:
            with client._open(request) as answer:
                head = Reply(answer.status_code, answer.headers)
                if not head.ok:
                    refusal = Reply(head.status, head.headers, answer.read())
                    raise error_of(refusal, client.base_url, client._context.now())
                check_streamed(head)
                yield from answer.iter_bytes()
        except httpx.TransportError as failure:
            raise stream_error(failure, request, client.base_url, silence_s) from failure

    def cancel(self, video_id: str) -> Video:
        """Stop an unfinished job; it stays, and ends as failed with the code "cancelled".

        Raises:
            NotFoundError: there is no such video.
            ConflictError: it has already ended otherwise.
        """
        return self._call(cancel_request(video_id))

    def delete(self, video_id: str) -> DeletedVideo:
        """Cancel the job if it is not finished (it then ends as failed, code "cancelled"), else remove it.

        Raises:
            NotFoundError: there is no such video.
        """
        return self._client._run(flows.call(self._client._context, delete_request(video_id), DeletedVideo))

    def create_and_wait(
        self,
        prompt: str,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[Video], Any] | None = None,
        **options: Unpack[CreateOptions],
    ) -> Video:
        """`create` with its options, then `wait`."""
        video = self.create(prompt, **options)
        return self._client._run(flows.wait(self._client._context, video.id, timeout_s, on_progress, video))
