// Which view is shown, by the address behind the #; signing in; the server's health.

import { ApiError, call, onSignIn } from "./api.js";
import { h, say, setText } from "./dom.js";
import { home } from "./home.js";
import { pools } from "./pools.js";
import { studies } from "./studies.js";
import { study } from "./study.js";
import { video } from "./video.js";

const VIEWS = [
  [/^\/?$/, "home", home, "Videos"],
  [/^\/pools$/, "pools", pools, "Pools"],
  [/^\/studies$/, "studies", studies, "Studies"],
  [/^\/study\/([^/]+)$/, "studies", study, "Study"],
  [/^\/video\/([^/]+)$/, "home", video, "Video"],
];
const HEALTH_MS = 15000;
let leave = null;

async function show() {
  leave?.();
  leave = null;
  const path = location.hash.slice(1);
  const view = h("div"); // of this call alone: a slower one before it writes to what is shown no more
  const found = VIEWS.map(([pattern, ...rest]) => [pattern.exec(path), ...rest]).find(([match]) => match);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === found?.[1]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("view").replaceChildren(view);
  if (!found) {
    view.append(h("section", { class: "card" }, h("h1", {}, "There is no such page"), h("a", { href: "#/" }, "To the videos")));
    return;
  }
  const [match, page, open, title] = found;
  document.title = `${title} - MagicVideo`;
  window.scrollTo(0, 0);
  const stop = new AbortController();
  leave = () => stop.abort();
  try {
    await open(view, stop.signal, ...match.slice(1).map(decodeURIComponent));
  } catch (error) {
    if (stop.signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    document.title = "Not there - MagicVideo";
    view.replaceChildren(
      h("section", { class: "card" },
        h("h1", {}, error.status === 404 ? `There is no such ${title.toLowerCase()}` : "That did not work"),
        h("p", { class: "error", role: "alert" }, error.status === 404 ? "It may have been deleted, or the address is not whole." : error.message),
        h("p", {}, h("button", { type: "button", onclick: show }, "Try again"), " ", h("a", { href: page === "studies" ? "#/studies" : "#/" }, page === "studies" ? "To the studies" : "To the videos"))),
    );
  }
}

let asking = null;
onSignIn((message) => {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("sign-in");
    const field = document.getElementById("key");
    const error = document.getElementById("key-error");
    const form = dialog.querySelector("form");
    error.textContent = field.value ? message : "";
    dialog.oncancel = (event) => event.preventDefault();
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await call("POST", "v1/session", undefined, { Authorization: `Bearer ${field.value.trim()}` });
      } catch (refused) {
        error.textContent = refused.message;
        field.focus();
        return;
      }
      field.value = "";
      localStorage.setItem("signed-in", "yes");
      shownSignOut();
      dialog.close();
      asking = null;
      resolve();
    };
    if (!dialog.open) dialog.showModal();
    field.focus();
  });
  return asking;
});

function shownSignOut() {
  document.getElementById("sign-out").hidden = localStorage.getItem("signed-in") !== "yes";
}

document.getElementById("sign-out").addEventListener("click", async () => {
  try {
    await call("DELETE", "v1/session");
  } catch (error) {
    say(error.message);
    return;
  }
  localStorage.removeItem("signed-in");
  shownSignOut();
  show();
});

async function health() {
  const place = document.getElementById("health");
  try {
    const response = await fetch("healthz");
    const state = await response.json();
    place.dataset.status = state.status;
    place.title = state.problems.join(" ");
    setText(place, state.status === "ok" ? `Preset ${state.model}` : `Preset ${state.model}: ${state.status}`);
  } catch {
    place.dataset.status = "gone";
    place.title = "";
    setText(place, "No connection");
  }
}

window.addEventListener("hashchange", () => {
  show().then(() => document.getElementById("view").focus({ preventScroll: true }));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address behind the # is a view's
  document.getElementById("view").focus();
});
shownSignOut();
show();
health();
setInterval(() => { if (!document.hidden) health(); }, HEALTH_MS);
