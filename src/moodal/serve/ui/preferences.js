/** What the user prefers, kept in this browser: language, theme, whether single keys do something. */

const PREFIX = "moodal.";

/**
 * @param {string} name
 * @param {string} fallback
 * @returns {string}
 */
export function preference(name, fallback) {
  try {
    return localStorage.getItem(PREFIX + name) ?? fallback;
  } catch {
    return fallback; // storage may be forbidden
  }
}

/**
 * @param {string} name
 * @param {string} value "" = forget it
 */
export function prefer(name, value) {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Then it holds until the page is left.
  }
}

/** @typedef {"" | "light" | "dark"} Theme "" = as the system has it */

/** @param {Theme} theme */
export function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  prefer("theme", theme);
  document.dispatchEvent(new Event("moodal:theme"));
}
