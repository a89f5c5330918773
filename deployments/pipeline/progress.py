"""How far one job is, stage by stage: infos of stage calls in, `StageState`s and events out.

    waiting -> queued (its call was sent) -> running (its replica has the device) -> completed

V2V and VFI are called once a window, several at a time: their counts are sums over their calls, `queued_s` is that of
the first one.
Pure bookkeeping; time comes in as a function. Knows nothing of Ray or the journal.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from client.schema import StageState
from deployments.on_ray.streams import Info
from stages.types import STAGE_NAMES, StageName

Event = tuple[str, dict[str, Any]]
Origin = Literal["restored", "reused", "uploaded"]


@dataclass
class _Stage:
    status: str = "waiting"
    calls_sent: int = 0
    calls_done: int = 0
    calls_total: int = 1
    fractions: dict[int, float] = field(default_factory=dict)  # of the calls under way, by number
    shown: int = 0  # percent; never goes back when more calls come than were expected
    sent_at: float = 0.0
    queued_s: float | None = None
    run_s: float | None = None
    bytes_out: int | None = None
    peak_memory_mb: float | None = None  # the most of any call
    origin: Origin | None = None


class JobProgress:
    """One run of one job. Changes gather until `take` hands them out."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stages: dict[StageName, _Stage] = {name: _Stage() for name in STAGE_NAMES}
        self._changed: set[StageName] = set()
        self._events: list[Event] = []
        self._failures: dict[StageName, int] = {}  # not yet taken
        self._waits: dict[StageName, str] = {}
        self._paused: dict[StageName, str] = {}
        self.glimpse: bytes | None = None  # the last denoising step that was shown, while its stage runs

    def sent(self, name: StageName) -> None:
        """The stage's input is ready and its call goes out."""
        stage = self._stages[name]
        stage.calls_sent += 1
        stage.calls_total = max(stage.calls_total, stage.calls_sent)
        if stage.status == "waiting":
            stage.status, stage.sent_at = "queued", self._clock()
            self._note(name, "stage_queued")

    def expect_calls(self, name: StageName, calls: int) -> None:
        """How many calls the stage will get in all."""
        self._stages[name].calls_total = max(1, calls)

    def info(self, name: StageName, info: Info, number: int = 0) -> None:
        """What the `number`-th call of a stage has just said."""
        self.goes_on(name)
        stage = self._stages[name]
        if info["kind"] == "started":
            if stage.status == "queued":
                stage.status, stage.queued_s = "running", round(self._clock() - stage.sent_at, 4)
                self._note(name, "stage_started")
        elif info["kind"] == "progress":
            stage.fractions[number] = info["step"] / max(1, info["total"])
            self.glimpse = info.get("glimpse", self.glimpse)
        else:
            stage.run_s = round((stage.run_s or 0.0) + info["run_s"], 4)
            stage.bytes_out = (stage.bytes_out or 0) + info["bytes"]
            peaks = (stage.peak_memory_mb, info.get("peak_memory_mb"))
            stage.peak_memory_mb = max((peak for peak in peaks if peak is not None), default=None)
            made = {"stage": name, "index": number + info["index"], "run_s": round(info["run_s"], 4)}
            if "batch" in info:
                made["batch"] = info["batch"]
            self._events.append(("stage_output", {**made, "bytes": info["bytes"], "replica": info["replica"]}))
            if info["last"]:
                stage.calls_done += 1
                stage.fractions.pop(number, None)
        self._changed.add(name)

    def waits(self, name: StageName, sentence: str) -> None:
        """The platform lacks what the stage needs; `sentence` says what."""
        if self._waits.get(name) != sentence:
            self._waits[name] = sentence
            self._changed.add(name)
            self._events.append(("waiting", {"stage": name, "reason": sentence}))

    def goes_on(self, name: StageName) -> None:
        """It is there."""
        if self._waits.pop(name, None) is not None:
            self._changed.add(name)

    @property
    def waits_for(self) -> str | None:
        """What the platform lacks now, in sentences."""
        return " ".join(dict.fromkeys(self._waits.values())) or None

    @property
    def paused_for(self) -> str | None:
        """That a call has stopped for an urgent one, in a sentence."""
        return " ".join(dict.fromkeys(self._paused.values())) or None

    def retried(self, name: StageName, attempt: int, reason: str, number: int = 0, lost_s: float = 0.0) -> None:
        """The `number`-th call is repeated because its replica died, which had computed so long for nothing."""
        self._stages[name].fractions.pop(number, None)
        self._stages[name].shown = 0
        self._changed.add(name)
        said = {"stage": name, "index": number, "attempt": attempt, "reason": reason, "lost_s": round(lost_s, 3)}
        self._events.append(("stage_retried", said))

    def restored(self, name: StageName, nbytes: int, number: int = 0, origin: Origin = "restored") -> None:
        """The output of the `number`-th call was there already: made by an earlier executor or job, or sent to us."""
        stage = self._stages[name]
        stage.status = "running" if stage.status == "waiting" else stage.status
        stage.calls_sent += 1
        stage.calls_done += 1
        stage.calls_total = max(stage.calls_total, stage.calls_sent)
        stage.bytes_out = (stage.bytes_out or 0) + nbytes
        self._changed.add(name)
        stage.origin = origin
        self.goes_on(name)
        self._events.append(("stage_restored", {"stage": name, "index": number, "bytes": nbytes, "origin": origin}))

    def kept(self, name: StageName, number: int) -> None:
        """The output of the `number`-th call is safe from now on, and can be looked at."""
        self._events.append(("stage_kept", {"stage": name, "index": number}))
        if name == "t2i":
            self._events.append(("keyframe_ready", {"variant": "keyframe", "candidate": number}))
        elif name == "i2v":
            self._events.append(("preview_ready", {"variant": "preview"}))
        elif name == "vfi":
            self._events.append(("chunk_ready", {"index": number, "total": self._stages[name].calls_total}))

    def failed(self, name: StageName, number: int, reason: str) -> None:
        """The `number`-th call raised, and is repeated."""
        self._stages[name].fractions.pop(number, None)
        self._failures[name] = self._failures.get(name, 0) + 1
        self._changed.add(name)
        self._events.append(("stage_retried", {"stage": name, "index": number, "reason": reason}))

    def yielded(self, name: StageName, number: int, step: int, total: int, wait_s: float | None) -> None:
        """The `number`-th call has stopped; with `wait_s`, for an urgent one, and goes on in about so long."""
        said: dict[str, Any] = {"stage": name, "index": number, "step": step, "total": total}
        if wait_s is not None:
            said["wait_s"] = round(wait_s, 1)
            self._paused[name] = f"Paused for an urgent job; continues in about {max(1, round(wait_s))} s."
        self._stages[name].fractions[number] = step / max(1, total)
        self._changed.add(name)
        self._events.append(("stage_yielded", said))

    def resumed(self, name: StageName, number: int, step: int, total: int, parked_s: float | None) -> None:
        """It goes on after that step, so long after it stopped; None: its replica or its pipeline had died."""
        self._paused.pop(name, None)
        self._changed.add(name)
        parked = {} if parked_s is None else {"parked_s": round(parked_s, 3)}
        said = {"stage": name, "index": number, "step": step, "total": total, **parked}
        self._events.append(("stage_resumed", said))

    def restarted(self, attempt: int, reason: str) -> None:
        """The job begins again: every stage waits as at the start."""
        begun = [name for name in STAGE_NAMES if self._stages[name].status != "waiting"]
        self._stages = {name: _Stage() for name in STAGE_NAMES}
        self._waits.clear()
        self._paused.clear()
        self._changed.update(begun)
        self._events.append(("job_restarted", {"attempt": attempt, "reason": reason}))

    def completed(self, name: StageName) -> None:
        """The stage has given all it has to give."""
        self._stages[name].status = "completed"
        self.glimpse = None
        self.goes_on(name)
        self._note(name, "stage_completed")

    def take(self) -> tuple[tuple[StageState, ...], tuple[Event, ...], dict[StageName, int]]:
        """What has changed since the last `take`: the states of changed stages, events in order, failures of calls."""
        states = tuple(self._state(name) for name in STAGE_NAMES if name in self._changed)
        events = tuple(self._events)
        self._changed.clear()
        self._events.clear()
        failures, self._failures = self._failures, {}
        return states, events, failures

    @property
    def dirty(self) -> bool:
        return bool(self._changed or self._events)

    def _note(self, name: StageName, kind: str) -> None:
        self._changed.add(name)
        self._events.append((kind, {"stage": name}))

    def _state(self, name: StageName) -> StageState:
        stage = self._stages[name]
        done = (stage.calls_done + sum(stage.fractions.values())) / stage.calls_total
        stage.shown = 100 if stage.status == "completed" else max(stage.shown, min(99, int(100 * done)))
        return StageState.model_validate(
            {
                "name": name,
                "status": stage.status,
                "progress": stage.shown,
                "queued_s": stage.queued_s,
                "run_s": stage.run_s,
                "bytes_out": stage.bytes_out,
                "peak_memory_mb": stage.peak_memory_mb,
                "origin": stage.origin,
            }
        )
