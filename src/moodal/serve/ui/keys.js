/** Single keys that do something, as long as nobody is writing and the user has not switched them off. */

import { preference } from "./preferences.js";

const WRITING = "input:not([type=checkbox]), textarea, select, [contenteditable]";

/**
 * @param {Record<string, (event: KeyboardEvent) => void>} actions by KeyboardEvent.key
 * @returns {() => void} stops listening
 */
export function keyPressed(actions) {
  const listener = (event) => {
    const action = actions[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.(WRITING) || document.querySelector("dialog[open]")) return;
    if (preference("keys", "on") !== "on") return;
    event.preventDefault();
    action(event);
  };
  document.addEventListener("keydown", listener);
  return () => document.removeEventListener("keydown", listener);
}
