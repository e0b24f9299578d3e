// Keys and buttons: which command they stand for, and the list of them.

const SHOWN = {" ": "Space", ArrowRight: "→", ArrowDown: "↓", ArrowLeft: "←", ArrowUp: "↑"};

const keysOf = (keys) => keys === " " ? [" "] : keys.split(" ").filter(Boolean);

// Run commands by their keys and by buttons that carry their names.
// commands: name to [keys, words, what it does]; typed: told any other key, true where it was used.
export function listen(commands, run, typed, dialog) {
  const names = new Map(Object.entries(commands).flatMap(
    ([name, [keys]]) => keysOf(keys).map((key) => [key, name])));
  document.addEventListener("keydown", (event) => {
    const {key, target} = event;
    if (dialog.open || event.altKey || target.matches("input[type=search]")) return;
    if (target.matches("button") && (key === "Enter" || key === " ")) return;
    if (target.matches("input[type=range]") && key.startsWith("Arrow")) return;
    const name = event.ctrlKey || event.metaKey
      ? {z: event.shiftKey ? "redo" : "undo", y: "redo"}[key.toLowerCase()]
      : names.get(plain(event));
    if (name) run(name);
    else if (event.ctrlKey || event.metaKey || !typed(plain(event))) return;
    event.preventDefault();
  });
  document.addEventListener("click", ({target}) => {
    const button = target.closest("[data-do]");
    if (button) run(button.dataset.do);
  });
}

// Letters by their place where the script is another one; Caps Lock plays no part.
function plain({key, code, shiftKey}) {
  const letter = /^[a-z]$/i.test(key) ? key : /^Key[A-Z]$/.test(code) ? code.slice(3) : null;
  if (letter === null) return key;
  return shiftKey ? letter.toUpperCase() : letter.toLowerCase();
}

// Fill a list with all commands that have words.
export function explain(commands, list, others) {
  for (const [keys, words] of [...others, ...Object.values(commands)]) {
    if (!words) continue;
    const term = document.createElement("dt"), text = document.createElement("dd");
    for (const key of keysOf(keys)) {
      const cap = document.createElement("kbd");
      cap.textContent = SHOWN[key] ?? (key.length === 1 ? key.toUpperCase() : key);
      term.append(cap, " ");
    }
    text.textContent = words;
    list.append(term, text);
  }
}
