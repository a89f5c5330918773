// The questions of a pair, one after the other, each with three answers: by touch, by 1 2 3 or by G S B (good, same,
// bad, said of the first). Its buttons stay while pairs come and go, so that focus stays where it was; the second click
// of a double one, or a key that is held, answers nothing more.

import { button, fill, h, setText } from "./dom.js";
import { placed } from "./pair.js";

const CHOICES = ["left", "same", "right"];
const KEYS = { 1: "left", g: "left", 2: "same", s: "same", 3: "right", b: "right" };

export class Ballot {
  // `onVote` is told all choices of a pair, `onEarly` that somebody answers before that is allowed.
  constructor(criteria, onVote, onEarly, say) {
    Object.assign(this, { criteria, onVote, onEarly, say });
    this.question = h("span");
    this.step = h("small");
    this.buttons = CHOICES.map((choice, index) => button("", (event) => { if (event.detail < 2) this.answer(choice); }, { "aria-disabled": "true", "data-choice": choice,
      "aria-keyshortcuts": `${index + 1} ${"GSB"[index]}` }));
    this.buttons.forEach((one, index) => fill(one, h("kbd", { class: "keys", "aria-hidden": "true" }, String(index + 1)),
      index === 1 ? "Same" : placed(index / 2, " is better")));
    this.back = button("Question before", () => this.stepBack(), { class: "quiet", hidden: true, "aria-keyshortcuts": "Backspace" });
    this.note = h("div", { class: "until" });
    this.element = h("fieldset", { class: "ballot" }, h("legend", {}, this.step, this.question),
      h("div", { class: "answers" }, this.buttons),
      h("div", { class: "foot" }, this.back, this.note));
    this.begin();
  }

  begin() {
    this.choices = {};
    this.allow(false);
    this.ask(0);
  }

  allow(allowed) {
    this.allowed = allowed;
    for (const one of this.buttons) one.setAttribute("aria-disabled", String(!allowed));
  }

  ask(index) {
    const { criteria } = this;
    this.index = index;
    this.back.hidden = index === 0;
    setText(this.question, criteria[index].question);
    setText(this.step, criteria.length > 1 ? `Question ${index + 1} of ${criteria.length}` : "");
    for (const one of this.buttons) one.setAttribute("aria-pressed", String(this.choices[criteria[index].name] === one.dataset.choice));
  }

  answer(choice) {
    if (!this.allowed) {
      this.onEarly();
      return;
    }
    this.choices[this.criteria[this.index].name] = choice;
    if (this.index + 1 < this.criteria.length) {
      this.ask(this.index + 1);
      this.say(`${this.step.textContent}: ${this.question.textContent}`);
      return;
    }
    this.ask(this.index);
    this.allow(false);
    this.onVote({ ...this.choices });
  }

  stepBack() {
    if (!this.index || !this.allowed) return;
    this.ask(this.index - 1);
    this.say(`${this.step.textContent}: ${this.question.textContent}`);
    if (this.back.hidden) this.buttons[0].focus();
  }

  // Whether the key was one of its own.
  key(name) {
    if (name === "backspace") this.stepBack();
    else if (KEYS[name]) this.answer(KEYS[name]);
    else return false;
    return true;
  }
}
