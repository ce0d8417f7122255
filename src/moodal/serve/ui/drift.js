/** How far what is asked now lies from what the model was validated on, measure by measure. */

import { html } from "./vendor/htm-preact.module.js";
import { measureName, modalityName, number, t } from "./words.js";

/** Where PSI's bar ends; 0.1 and 0.25 are the usual bounds of "moderate" and "large". */
const FULL = 0.5;

/** @param {{rows: {measure: string, modality: string, psi: number, ks: number | null, ks_limit: number | null, n: number, state: string}[]}} props */
export const Drift = ({ rows }) => html`
  <section class="card drift">
    <h2>${t("drift.title")}</h2>
    <p class="small muted">${t("drift.why")}</p>
    ${rows.length === 0
      ? html`<p class="muted">${t("drift.none")}</p>`
      : html`<div class="scroll" tabindex="0" role="region" aria-label=${t("drift.title")}>
          <table>
            <thead><tr>${["measure", "state", "psi", "ks", "n"].map((name) => html`<th scope="col">${t(`drift.${name}`)}</th>`)}</tr></thead>
            <tbody>${rows.map((row) => html`<${Row} ...${row} />`)}</tbody>
          </table>
        </div>`}
  </section>
`;

function Row({ measure, modality, psi, ks, ks_limit: limit, n, state }) {
  const known = state !== "few";
  return html`
    <tr class=${state}>
      <th scope="row">${measureName(measure)}${modality && html` <span class="small muted">${modalityName(modality)}</span>`}</th>
      <td><span class=${`state ${state}`}>${t(`drift.state.${state}`)}</span></td>
      <td>${known && psi !== null
        ? html`<span class="bar-track narrow" aria-hidden="true"><span style=${{ width: `${Math.min(100, (100 * psi) / FULL)}%` }}></span></span>${number(psi, 2)}`
        : "–"}</td>
      <td>${known && ks !== null ? html`${number(ks, 2)} <span class="small muted">/ ${number(limit, 2)}</span>` : "–"}</td>
      <td>${number(n)}</td>
    </tr>
  `;
}
