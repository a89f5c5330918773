// The server's API: calls, the sign-in that a 401 asks for, and a job's events. Every address here and in the page is
// relative to the page's own, which may lie below a prefix.

export class ApiError extends Error {
  constructor(status, message, param, code, afterS) {
    super(message);
    Object.assign(this, { status, param, code, afterS });
  }
}

let signIn = null; // set by main.js: shows the dialog, resolves when there is a session
export function onSignIn(ask) { signIn = ask; }

function away() {
  return new ApiError(0, "The server cannot be reached; it may be restarting. Your jobs are kept.", null, "offline");
}

// The answer of a route, or an `ApiError`; `signal` ends the waiting for it.
export async function ask(method, path, body, headers = {}, signal = undefined) {
  for (;;) {
    const options = { method, signal, headers: { ...headers } };
    if (body instanceof FormData) options.body = body;
    else if (body !== undefined) {
      options.body = written(body);
      options.headers["Content-Type"] = "application/json";
    }
    const response = await fetch(path, options).catch(() => { throw away(); });
    if (response.ok) return response;
    const said = await response.json().catch(() => null);
    const error = said?.error ?? { message: `The server answered ${response.status}.` };
    if (response.status === 401 && signIn && !headers.Authorization) {
      await signIn(error.message);
      continue;
    }
    throw new ApiError(response.status, error.message, error.param, error.code, Number(response.headers.get("Retry-After")) || null);
  }
}

export async function call(...asked) {
  const response = await ask(...asked);
  return response.status === 204 ? null : read(await response.text().catch(() => { throw away(); }));
}

export async function fetched(...asked) {
  const response = await ask(...asked);
  return response.blob().catch(() => { throw away(); });
}

// A seed may be larger than any number that JavaScript holds exactly: here it is a text of digits, on the wire a number.
// Inside a string of JSON every quote has a backslash before it, so that nothing a user wrote looks like the key.
export function read(json) { return JSON.parse(json.replace(/"seed":\s*(\d+)/g, '"seed":"$1"')); }
export function written(body) { return JSON.stringify(body).replace(/"seed":"(-?(?:0|[1-9]\d*))"/g, '"seed":$1'); }

const KINDS = [
  "queued", "started", "restarted", "job_restarted", "released", "stage_queued", "stage_started", "stage_progress",
  "stage_completed", "stage_restored", "stage_output", "stage_kept", "stage_retried", "stage_yielded", "stage_resumed", "keyframe_ready",
  "preview_ready", "chunk_ready", "paused", "continued", "completed", "failed", "cancelled",
  "waiting", "put_off",
];
export const LAST = new Set(["completed", "failed", "cancelled"]);
const POLL_MS = 2000;

// Tell `onEvent` all that happens to a job from its beginning, and `onTick` that it may have changed without an event
// while the stream is broken: an EventSource resumes by itself, and where it cannot, asking every two seconds does.
export function follow(id, onEvent, onTick) {
  let source = null;
  let timer = null;
  let closed = false;
  let last = 0;

  function open() {
    source = new EventSource(`v1/videos/${encodeURIComponent(id)}/events?after=${last}`);
    source.onopen = () => { clearInterval(timer); timer = null; };
    source.onerror = () => {
      timer ??= setInterval(tick, POLL_MS);
    };
    for (const kind of KINDS) source.addEventListener(kind, (message) => {
      const event = JSON.parse(message.data);
      if (kind !== "stage_progress") { // which is not kept, and bears the id of what was told before
        if (event.id <= last) return;
        last = event.id;
      }
      onEvent(event);
      if (LAST.has(kind)) close();
    });
  }
  function tick() {
    onTick();
    if (!closed && source.readyState === EventSource.CLOSED) { source.close(); open(); }
  }
  function close() {
    closed = true;
    clearInterval(timer);
    source?.close();
  }
  open();
  return close;
}
