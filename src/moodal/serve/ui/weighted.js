/** The words of a text, coloured by how much each moved the answer. */

import { html } from "./vendor/htm-preact.module.js";
import { worth } from "./bars.js";
import { t } from "./words.js";

/** @typedef {[word: string, weight: number]} Weighted */

/**
 * The text as it was written, cut where the model's words begin and end.
 * @param {string} text
 * @param {Weighted[]} words in reading order, as the model reads them
 * @returns {{text: string, weight: number | null}[]} weight: null between words
 */
export function pieces(text, words) {
  const plain = text.toLowerCase();
  if (plain.length !== text.length)
    return words.map(([word, weight]) => ({ text: `${word} `, weight }));
  const found = [];
  let at = 0;
  for (const [word, weight] of words) {
    const start = plain.indexOf(word.toLowerCase(), at);
    if (start < 0) continue; // written otherwise than it is read: a wide letter, an emoji
    if (start > at) found.push({ text: text.slice(at, start), weight: null });
    at = start + word.length;
    found.push({ text: text.slice(start, at), weight });
  }
  return [...found, { text: text.slice(at), weight: null }];
}

/** @param {{text: string, words: Weighted[], ofValue: boolean}} props */
export function Words({ text, words, ofValue }) {
  const peak = Math.max(...words.map(([, weight]) => Math.abs(weight)), 1e-9);
  const piece = ({ text: word, weight }) =>
    weight === null
      ? word
      : html`<mark
          class=${weight < 0 ? "against" : "for"}
          style=${{ "--weight": (Math.abs(weight) / peak).toFixed(2) }}
          title=${worth(weight, ofValue)}
          >${word}</mark
        >`;
  const heaviest = [...words].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 10);
  return html`
    <p class="words">${pieces(text, words).map(piece)}</p>
    <${Legend} />
    <details class="more">
      <summary>${t("answer.asNumbers")}</summary>
      <table>
        <tbody>
          ${heaviest.map(
            ([word, weight]) => html`
            <tr><th scope="row">${word}</th><td>${worth(weight, ofValue)}</td></tr>`,
          )}
        </tbody>
      </table>
    </details>
  `;
}

export const Legend = () => html`
  <p class="legend small">
    <span>${t("answer.against")}</span>
    <span class="legend-scale" aria-hidden="true"></span>
    <span>${t("answer.for")}</span>
  </p>
`;
