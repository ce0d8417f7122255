/** How probable each label is, and how much each modality moved the answer, as bars. */

import { html } from "./vendor/htm-preact.module.js";
import { labelName, modalityName, percent, signed, t } from "./words.js";

/** Up to here labels stay in the model's order, so that bars keep their places. */
const FEW = 5;
const SHOWN = 8;

/** @param {{probabilities: Record<string, number>, label: string | null}} props */
export function Probabilities({ probabilities, label }) {
  const all = Object.entries(probabilities);
  const rows = all.length <= FEW ? all : all.sort((a, b) => b[1] - a[1]);
  const bar = ([name, p]) => html`
    <li key=${name} class=${name === label ? "bar chosen" : "bar"}>
      <span class="bar-name">${labelName(name)}</span>
      <span class="bar-track" aria-hidden="true"><span style=${{ width: `${100 * p}%` }}></span></span>
      <span class="bar-value">${percent(p)}</span>
    </li>
  `;
  return html`
    <ul class="bars">${rows.slice(0, SHOWN).map(bar)}</ul>
    ${
      rows.length > SHOWN &&
      html`<details class="more"><summary>${t("answer.more", { n: rows.length - SHOWN })}</summary>
      <ul class="bars">${rows.slice(SHOWN).map(bar)}</ul></details>`
    }
  `;
}

/**
 * A contribution as people read it: of a probability in percentage points, of a value as it is.
 * @param {number} share @param {boolean} ofValue
 */
export const worth = (share, ofValue) =>
  ofValue ? signed(share, 3) : t("points", { n: signed(100 * share) });

/** @param {{contributions: Record<string, number>, ofValue: boolean}} props */
export function Shares({ contributions, ofValue }) {
  const rows = Object.entries(contributions);
  const peak = Math.max(...rows.map(([, share]) => Math.abs(share)), ofValue ? 1e-9 : 0.25);
  return html`
    <ul class="bars shares">
      ${rows.map(([modality, share]) => {
        const size = `${(50 * Math.abs(share)) / peak}%`;
        const side = share < 0 ? { right: "50%", width: size } : { left: "50%", width: size };
        return html`
          <li key=${modality} class="bar">
            <span class="bar-name">${modalityName(modality)}</span>
            <span class="bar-track signed" aria-hidden="true">
              <span class=${share < 0 ? "against" : "for"} style=${side}></span>
            </span>
            <span class="bar-value">${worth(share, ofValue)}</span>
          </li>
        `;
      })}
    </ul>
  `;
}
