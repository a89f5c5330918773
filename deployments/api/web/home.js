// The first view: a prompt with its options, and the videos there are, newest first.

import { promptForm } from "./form.js";
import { Gallery } from "./gallery.js";
import { offers } from "./offers.js";

export async function home(view, signal) {
  const gallery = new Gallery(signal);
  const loaded = gallery.load();
  loaded.catch(() => {}); // it is said below
  view.append(promptForm(await offers(), signal), gallery.element);
  await loaded;
}
