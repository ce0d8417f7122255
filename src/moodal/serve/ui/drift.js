/** How far what is asked now lies from what the model was validated on, measure by measure. */

import { html } from "./vendor/htm-preact.module.js";
import { measureName, modalityName, number, t } from "./words.js";

/** Where PSI's bar ends. */
const FULL = 0.5;
/** What drifts comes first. */
const SHOWN = 8;
const COLUMNS = ["measure", "state", "psi", "ks", "n"];

/** @param {{look: object}} props as GET /v1/monitor gives it */
export const Drift = ({ look: { drift: rows, model, sampled, rows_of_model: all } }) => html`
  <section class="card drift">
    <h2>${t("drift.title")}</h2>
    <p class="small muted">${t("drift.why", { model, sampled: number(sampled), rows: number(all) })}</p>
    ${rows.length === 0 && html`<p class="muted">${t("drift.none")}</p>`}
    ${rows.length > 0 && html`<${Rows} rows=${rows.slice(0, SHOWN)} />`}
    ${
      rows.length > SHOWN &&
      html`<details class="more">
      <summary>${t("answer.more", { n: rows.length - SHOWN })}</summary>
      <${Rows} rows=${rows.slice(SHOWN)} />
    </details>`
    }
  </section>
`;

/** @param {{rows: object[]}} props */
const Rows = ({ rows }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${t("drift.title")}>
    <table>
      <thead>
        <tr>${COLUMNS.map((name) => html`<th scope="col">${t(`column.${name}`)}</th>`)}</tr>
      </thead>
      <tbody>${rows.map((row) => html`<${Row} ...${row} />`)}</tbody>
    </table>
  </div>
`;

/**
 * @param {object} props
 * @param {string} props.measure
 * @param {string} props.modality "" where it is of the whole record
 * @param {number} props.psi
 * @param {number} props.psi_limit
 * @param {number | null} props.ks null of a count
 * @param {number | null} props.ks_limit
 * @param {number} props.n
 * @param {"steady" | "drifting" | "few"} props.state
 */
function Row({ measure, modality, psi, psi_limit: psiLimit, ks, ks_limit: ksLimit, n, state }) {
  const known = state !== "few";
  const width = `${Math.min(100, (100 * psi) / FULL)}%`;
  return html`
    <tr class=${state}>
      <th scope="row">
        ${measureName(measure)}
        ${modality && html` <span class="small muted">${modalityName(modality)}</span>`}
      </th>
      <td><span class=${`state ${state}`}>${t(`drift.state.${state}`)}</span></td>
      <td>${
        known
          ? html`<span class="bar-track narrow" aria-hidden="true"><span style=${{ width }}></span></span>
            ${number(psi, 2)}<${Limit} value=${psiLimit} />`
          : "–"
      }</td>
      <td>${known && ks !== null ? html`${number(ks, 2)}<${Limit} value=${ksLimit} />` : "–"}</td>
      <td>${number(n)}</td>
    </tr>
  `;
}

/** @param {{value: number}} props */
const Limit = ({ value }) => html` <span class="small muted">/ ${number(value, 2)}</span>`;
