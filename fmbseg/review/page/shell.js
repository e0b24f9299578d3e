// What the page says around the picture: saved or not, notices, the drawer with the images.

export const at = (id) => document.getElementById(id);

const WORDS = {saving: "saving…", retrying: "not saved, retrying…", reloaded: "reloaded"};

// state: "saving", "saved", "retrying", "reloaded", or "" for none; more: why.
export function said(state, more = "") {
  at("saved").textContent = at("saved").title = [WORDS[state] ?? state, more].join(" ").trim();
  at("saved").className = state;
  const lost = state === "saving" || state === "retrying";  // if the page were closed now
  (lost ? addEventListener : removeEventListener)("beforeunload", stay);
}

function stay(event) {
  event.preventDefault();
}

export function notice(words) {
  at("notice").hidden = !words;
  at("notice").firstElementChild.textContent = words;
}

export function drawer(open) {
  document.body.classList.toggle("drawer", open);
  at("menu").setAttribute("aria-expanded", open);
  if (open) at("images").focus();
}

export function counted({all, accepted, draft, waiting}) {
  const parts = [`${accepted} of ${all} accepted`];
  if (draft) parts.push(`${draft} to finish`);
  if (waiting) parts.push(`${waiting} not labelled yet`);
  at("progress").textContent = parts.join(", ");
}

// Tabs and a field that say which images are listed.
export function filters(queue) {
  const kinds = {
    all: () => true, todo: (state) => state !== "accepted",
    draft: (state) => state === "draft" || state === "changed",
    accepted: (state) => state === "accepted",
  };
  at("find").addEventListener("input", () => queue.filter(undefined, at("find").value));
  document.querySelector(".tabs").addEventListener("click", ({target}) => {
    if (!target.dataset.only) return;
    for (const tab of target.parentElement.children) tab.setAttribute("aria-pressed", tab === target);
    queue.filter(kinds[target.dataset.only]);
  });
}
