// A rater's page: opens the link, brings one pair after the other, sends the answers. The server holds all of it: to
// stop and go on, here or elsewhere, is to open the same link again. The token stays behind the # and in memory.

import { ApiError, call, fetched } from "./api.js";
import { button, fill, h, say as toast, setText } from "./dom.js";
import { Outbox, insist, pause } from "./outbox.js";
import { copied } from "./copying.js";
import { CannotPlay, place } from "./pair.js";
import { Trial } from "./trial.js";

const ANSWER_MS = 20000; // so long for an answer; then it is asked again
const SOON_S = 15;
const view = document.getElementById("view");
const live = document.getElementById("live");
const token = location.hash.slice(1);
const headers = { Authorization: `Bearer ${token}` };
const outbox = new Outbox(token.split(".")[0], (vote) => call("POST", "v1/rate/votes", vote, headers, AbortSignal.timeout(ANSWER_MS)));
const files = new Map(); // trial's id -> both of its files, on their way
let running = null; // ends what runs when another state begins

const REFUSALS = { // beside what the server says
  invalid_link: ["This link is not whole", "It has to be copied to its last letter."],
  link_expired: ["This link has expired", "What you rated until then is kept."],
  link_revoked: ["This link was withdrawn", "What you rated until then is kept."],
  study_not_found: ["This study is gone", "There is nothing left to rate."],
  study_failed: ["This study cannot begin", "Nothing was asked of you yet."],
};

function say(text) {
  live.textContent = "";
  setTimeout(() => setText(live, text), 50); // the same words twice are spoken twice
}

function begin() {
  running?.abort();
  running = new AbortController();
  return running.signal;
}

function card(title, ...children) {
  const heading = h("h1", { tabindex: -1 }, title);
  document.title = `${title} - Which is better?`;
  fill(view, h("section", { class: "card" }, heading, children));
  heading.focus({ preventScroll: true });
}

function minutes(count, rating) {
  const each = Math.max(rating.min_watch_s, rating.media.seconds) + 3 * rating.criteria.length;
  return Math.max(1, Math.round((count * each) / 60));
}

function welcome(rating) {
  begin();
  const { done, total } = rating.progress;
  const left = total - done;
  const pairs = `${left} ${left === 1 ? "pair" : "pairs"}`;
  card(done ? "Welcome back" : rating.title,
    done ? [h("p", {}, `${done} of ${total} pairs are rated and saved.`), h("progress", { max: total, value: done, "aria-label": "Pairs that are rated" })]
      : [rating.instructions && h("p", { class: "instructions" }, rating.instructions),
        h("p", {}, "You see two videos at a time and say which is better. What you see counts; nobody has to agree.")],
    h("h2", {}, rating.criteria.length > 1 ? "For every pair you are asked" : "For every pair you are asked one thing"),
    h("ol", { class: "asked-of" }, rating.criteria.map(({ question }) => h("li", {}, question))),
    h("ul", { class: "asked-of" },
      h("li", {}, `${done ? "Left: " : ""}${pairs}, about ${minutes(left, rating)} min.`, !done && rating.next?.training && " The first are for practice."),
      h("li", { class: "keys" }, h("kbd", {}, "1"), " ", h("kbd", {}, "2"), " ", h("kbd", {}, "3"), " or ", h("kbd", {}, "G"), " ", h("kbd", {}, "S"), " ", h("kbd", {}, "B"),
        ": left is better, same, right is better; ", h("kbd", {}, "P"), " pause, ", h("kbd", {}, "R"), " replay, ", h("kbd", {}, "F"), " full screen."),
      h("li", {}, "Every answer is saved at once. Stop whenever you like and go on with the same link, also on another device, ", until(rating), ".")),
    h("div", { class: "actions" }, button(done ? "Go on" : "Begin", () => rate(rating), { class: "primary big" }), copyButton()));
}

function until(rating) {
  const then = new Date(1000 * rating.expires_at);
  return `until ${then.toLocaleDateString([], { day: "numeric", month: "long", year: "numeric" })}, ${then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
}

function copyButton() {
  return button("Copy the link", async () => {
    toast(await copied(location.href) ? "Copied: your link. It is yours alone." : "The browser does not let this page copy; the link stands in its address bar.");
  }, { class: "quiet" });
}

async function rate(first) {
  const signal = begin();
  let rating = first;
  const trial = new Trial(first, {
    say,
    onBreak: () => rest(rating),
    onVote: (vote) => guarded(signal, async () => {
      outbox.keep(vote);
      const practice = rating.next.training;
      rating = await sent(signal, trial);
      signal.throwIfAborted();
      if (practice) await trial.feedback(practised(vote, rating));
      await next();
    }),
  }, signal);
  fill(view, trial.element);
  trial.title.focus({ preventScroll: true });

  async function next() {
    if (rating.complete) { finished(rating); return; }
    trial.coming(rating.next, rating.progress);
    const both = await insist(() => fetchedOf(rating.next), (error) => trial.waits(error && `The videos cannot be fetched now: ${reason(error)} It is tried again by itself.`), signal);
    signal.throwIfAborted();
    await trial.show(both);
    for (const id of files.keys()) if (id !== rating.next.id) files.delete(id);
    if (rating.after) fetchedOf(rating.after).catch(() => {}); // it is fetched again when it is its turn
  }
  await guarded(signal, next);
}

function reason(error) { return error.status ? error.message : "The network is away."; }

// The server's answer to the vote that is kept; what it refuses because the pair is rated already is asked anew.
async function sent(signal, trial = null) {
  const waits = (error) => trial?.waits(error && `Your answer is not saved yet: ${reason(error)} It is kept in this browser and sent again by itself; it counts once.`);
  try {
    return await outbox.deliver(waits, signal);
  } catch (error) {
    if (!["vote_differs", "trial_not_next"].includes(error.code)) throw error;
    toast("This pair was rated elsewhere before; that answer stays.");
    return insist(() => call("GET", "v1/rate", undefined, headers), waits, signal);
  }
}

function fetchedOf(trial) {
  if (!files.has(trial.id)) {
    const both = Promise.all([trial.left, trial.right].map((path) => fetched("GET", path, undefined, headers)));
    both.catch(() => files.delete(trial.id));
    files.set(trial.id, both);
  }
  return files.get(trial.id);
}

// What a rater reads of a practice pair before the next: what was understood, and what comes.
function practised(vote, rating) {
  const said = { left: `${place(0)} is better`, same: "Same", right: `${place(1)} is better` };
  const { expected = {}, reason } = rating.feedback ?? {};
  const judged = (name) => {
    if (!expected[name]) return "";
    return expected[name] === vote.choices[name] ? " That is right." : ` Known is: ${said[expected[name]]}.`;
  };
  return [...rating.criteria.map(({ name, question }) => `${question} You said: ${said[vote.choices[name]]}.${judged(name)}`), ...(reason ? [reason] : []),
    `This pair was for practice and is not counted. ${rating.next?.training ? "One more for practice comes." : "From now on every answer counts."}`];
}

function rest(rating) {
  const signal = begin();
  if (rating.complete) { finished(rating); return; }
  const { done, total } = rating.progress;
  const late = outbox.kept;
  card("A break", h("p", {}, `${done} of ${total} pairs are rated and saved. This page can be closed: the same link goes on, here or on another device, ${until(rating)}.`),
    h("progress", { max: total, value: done, "aria-label": "Pairs that are rated" }),
    late && h("p", { class: "away" }, "One answer more is not saved yet. It is kept in this browser and sent while this page is open, or when it is opened here again."),
    h("div", { class: "actions" }, button("Go on", start, { class: "primary big" }), copyButton()));
  if (late) guarded(signal, async () => {
    const after = await sent(signal);
    if (!signal.aborted) rest(after);
  });
}

function finished(rating) {
  begin();
  card("Thank you", h("p", {}, `All ${rating.progress.total} pairs are rated and saved. This page can be closed.`));
}

function refused(error) {
  begin();
  if (error.code === "study_not_ready") {
    card("Not ready yet", h("p", {}, "Its videos are still being prepared. This page looks again by itself; you can also come back later with the same link."));
    pause(SOON_S, running.signal).then(start, () => {});
    return;
  }
  const [title, todo] = REFUSALS[error.code] ?? ["That did not work", "What you rated is kept."];
  card(title, h("p", { class: "error", role: "alert" }, error.message), h("p", {}, todo),
    !REFUSALS[error.code] && h("div", { class: "actions" }, button("Try again", start, { class: "primary" })));
}

// Whatever ends `act` for good is a state of its own.
async function guarded(signal, act) {
  try {
    await act();
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof ApiError || error instanceof CannotPlay) refused(error);
    else throw error;
  }
}

async function start() {
  const signal = begin();
  files.clear(); // what could not be played is not played from here again
  if (!/^[\w.-]+$/.test(token)) {
    refused(new ApiError(401, "This page is opened by a link of your own.", null, "invalid_link"));
    return;
  }
  const waiting = h("p", { role: "status" }, "Opening …");
  fill(view, h("section", { class: "card" }, waiting));
  const waits = (error) => setText(waiting, error ? `${reason(error)} It is tried again by itself.` : "Opening …");
  await guarded(signal, async () => {
    if (outbox.kept) await sent(signal, { waits }).catch((error) => { if (!error.code) throw error; });
    const rating = await insist(() => call("GET", "v1/rate", undefined, headers, AbortSignal.timeout(ANSWER_MS)), waits, signal);
    if (rating.complete) finished(rating);
    else welcome(rating);
  });
}

window.addEventListener("hashchange", () => location.reload()); // another link
start();
