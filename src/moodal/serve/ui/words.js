/** Sentences, numbers and names in the language that the user reads. */

import { prefer } from "./preferences.js";
import { STRINGS } from "./strings.js";

/** @typedef {"en" | "zh"} Language */

let current = /** @type {Language} */ (
  document.documentElement.lang.startsWith("zh") ? "zh" : "en"
);

/** @returns {Language} */
export const language = () => current;

/** @param {Language} chosen */
export function setLanguage(chosen) {
  current = chosen;
  prefer("language", chosen);
  document.documentElement.lang = locale();
}

const locale = () => (current === "zh" ? "zh-CN" : "en");

/**
 * @param {string} key of STRINGS
 * @param {Record<string, string | number>} [values] for the {names} in the sentence
 * @returns {string}
 */
export function t(key, values = {}) {
  return STRINGS[current][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** @param {string} name @returns {boolean} */
const known = (name) => Object.hasOwn(STRINGS.en, name);

/**
 * A label as a person of this language calls it; labels of the user's own data stay as they are.
 * @param {string} label
 */
export const labelName = (label) => (known(`label.${label}`) ? t(`label.${label}`) : label);

/** @param {string} modality one, or several joined by "+" */
export const modalityName = (modality) =>
  modality === ""
    ? t("modality.none")
    : modality
        .split("+")
        .map((m) => t(`modality.${m}`))
        .join(" + ");

/** @param {string} prefix @param {string} name as the service has it, e.g. a change of a model */
export const nameOf = (prefix, name) =>
  known(`${prefix}.${name}`) ? t(`${prefix}.${name}`) : name;

/** What the monitor measures, e.g. "text.length" or "image.projection_3". @param {string} measure */
export function measureName(measure) {
  const [, stem, place] = measure
    .split(".")
    .at(-1)
    .match(/^(.*?)_?(\d*)$/);
  return known(`measure.${stem}`) ? t(`measure.${stem}`, { n: place }) : measure;
}

/** @param {number} share in [0, 1] @param {number} [digits] */
export const percent = (share, digits = 1) => format(share, digits, { style: "percent" });

/** @param {number} value @param {number} [digits] at most */
export const number = (value, digits = 0) => format(value, digits, { minimumFractionDigits: 0 });

/** @param {number} value @param {number} [digits] */
export const signed = (value, digits = 1) => format(value, digits, { signDisplay: "exceptZero" });

/** @param {number} value @param {number} digits @param {Intl.NumberFormatOptions} options */
const format = (value, digits, options) =>
  new Intl.NumberFormat(locale(), {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    ...options,
  })
    .format(value)
    .replace("-", "−");

/** @param {number} milliseconds as 4.2 ms, 120 ms or 1.9 s */
export const duration = (milliseconds) =>
  milliseconds < 1000
    ? t("ms", { n: number(milliseconds, milliseconds < 10 ? 1 : 0) })
    : t("seconds", { n: number(milliseconds / 1000, 1) });

/** @param {number} seconds as 1:05 */
export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** @param {number} at seconds since 1970 */
export const when = (at) =>
  new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" }).format(
    new Date(at * 1000),
  );
