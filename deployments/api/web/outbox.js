// Votes on their way. One is kept in this browser from the moment it is cast until the server says that it has it, and
// is sent again as long as it has not: through a lost network, a restarted server, a closed page. The server counts what
// comes twice once, so that nothing is lost by sending again and nothing gained.

import { ApiError } from "./api.js";

const WAITS_S = [1, 2, 4, 8, 15];
const BUSY = new Set([0, 408, 429]); // 0: no answer at all

// What `act` gives, tried again while the server is away or busy; `onWaits` is told each time, and by null at its end.
export async function insist(act, onWaits, signal) {
  for (let tries = 0; ; tries += 1) {
    try {
      const made = await act();
      if (tries) onWaits(null);
      return made;
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status < 500 && !BUSY.has(error.status))) throw error;
      signal.throwIfAborted();
      onWaits(error);
      await pause(error.afterS ?? WAITS_S[Math.min(tries, WAITS_S.length - 1)], signal);
    }
  }
}

// So many seconds, or until the browser says that the network is back.
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const over = new AbortController();
    const end = (settle) => { clearTimeout(timer); over.abort(); settle(); };
    const timer = setTimeout(() => end(resolve), 1000 * seconds);
    window.addEventListener("online", () => end(resolve), { signal: over.signal });
    signal.addEventListener("abort", () => end(() => reject(signal.reason)), { signal: over.signal });
  });
}

export class Outbox {
  // `send` brings a vote to the server; `name` tells one rater of this browser from another.
  constructor(name, send) {
    Object.assign(this, { name: `vote-of-${name}`, send, memory: null });
  }

  // The vote of which nobody knows that it arrived.
  get kept() {
    try {
      return JSON.parse(localStorage.getItem(this.name)) ?? this.memory;
    } catch { // a browser that keeps nothing: as long as the page is open
      return this.memory;
    }
  }

  keep(vote) {
    this.memory = vote;
    try {
      if (vote) localStorage.setItem(this.name, JSON.stringify(vote));
      else localStorage.removeItem(this.name);
    } catch { /* it stands in memory */ }
  }

  // The server's answer to the vote that is kept. A refusal for good is thrown, and the vote let go.
  async deliver(onWaits, signal) {
    const vote = this.kept;
    if (!vote) return null;
    try {
      const answer = await insist(() => this.send(vote), onWaits, signal);
      this.keep(null);
      return answer;
    } catch (error) {
      if (error instanceof ApiError) this.keep(null);
      throw error;
    }
  }
}
