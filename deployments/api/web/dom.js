// Elements out of names, properties and children. Text becomes text nodes only, so nothing that a user or another
// program wrote is ever read as markup.

const OWN = new Set(["value", "checked", "muted", "disabled", "hidden", "loop", "autoplay"]); // properties, not attributes

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (OWN.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...real(children));
  return element;
}

// Put these children in the place of those that there are; what is null or false is none.
export function fill(element, ...children) {
  element.replaceChildren(...real(children));
}

function real(children) {
  return children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);
}

// Replace what is inside only when it differs, so that focus, selection and screen readers are left alone.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function say(text) {
  const line = document.getElementById("said");
  line.textContent = text;
  line.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => line.classList.remove("shown"), 6000);
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

// A button that asks before it acts, in its own place.
export function sure(text, yes, act) {
  const place = h("span", { class: "sure" });
  const ask = button(text, () => { fill(place, confirm, keep); confirm.focus(); }, { class: "quiet" });
  const confirm = button(yes, act, { class: "danger" });
  const keep = button("No", () => { fill(place, ask); ask.focus(); });
  place.append(ask);
  return place;
}

export function field(text, control, { kind = "", help = "" } = {}) {
  if (help) {
    const id = `help-${control.name || control.id}`;
    control.setAttribute("aria-describedby", id);
    help = h("small", { id }, help);
  }
  return h("div", { class: `field ${kind}` }, h("label", {}, h("span", {}, text), control), help);
}

export function select(name, options) {
  return h("select", { name }, options.map(([value, text]) => h("option", { value }, text)));
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

export function bytes(value) {
  if (!value) return "";
  const units = ["B", "kB", "MB", "GB"];
  let power = 0;
  while (value >= 1000 && power < units.length - 1) { value /= 1000; power += 1; }
  return `${value < 10 && power ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

// A time of day, or a date where it is not of today.
export function when(epoch) {
  const ago = Date.now() / 1000 - epoch;
  const then = new Date(epoch * 1000);
  if (ago < 60) return "just now";
  if (ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  const clock = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === new Date().toDateString()) return `today ${clock}`;
  return `${then.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
}
