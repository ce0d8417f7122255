/** How often the model is right: as its confidence has it, and as people have it. */

import { html } from "./vendor/htm-preact.module.js";
import { modalityName, nameOf, number, percent, t } from "./words.js";

/**
 * @typedef {object} Quality
 * @property {number | null} estimated
 * @property {[number, number] | null} estimated_interval
 * @property {number | null} feedback
 * @property {[number, number] | null} feedback_interval
 * @property {number} n
 * @property {number} n_feedback
 *
 * @typedef {Quality & {kind: "language" | "modalities", name: string}} Slice
 */

/** @param {{accuracy: Quality & {slices: Slice[]}}} props */
export const Accuracy = ({ accuracy: a }) => html`
  <figure class="card plot accuracy">
    <figcaption><h2>${t("accuracy.title")}</h2></figcaption>
    <ul class="bars">
      <${Interval} name=${t("accuracy.estimated")} value=${a.estimated} range=${a.estimated_interval} />
      <${Interval} name=${t("accuracy.feedback")} value=${a.feedback} range=${a.feedback_interval} />
    </ul>
    <p class="small muted">${t("accuracy.why", { n: number(a.n), judged: number(a.n_feedback) })}</p>
    ${a.slices.length > 1 && html`<${Slices} slices=${a.slices} />`}
  </figure>
`;

/** @param {{slices: Slice[]}} props */
const Slices = ({ slices }) => html`
  <details class="more">
    <summary>${t("accuracy.slices")}</summary>
    <div class="scroll" tabindex="0" role="region" aria-label=${t("accuracy.slices")}>
      <table>
        <thead>
          <tr>
            <td></td>
            <th scope="col">${t("accuracy.estimated")}</th>
            <th scope="col">${t("accuracy.feedback")}</th>
          </tr>
        </thead>
        <tbody>${slices.map(
          (slice) => html`
          <tr>
            <th scope="row">${sliceName(slice)}</th>
            <td>${share(slice.estimated)} <span class="small muted">${number(slice.n)}</span></td>
            <td>${share(slice.feedback)} <span class="small muted">${number(slice.n_feedback)}</span></td>
          </tr>`,
        )}
        </tbody>
      </table>
    </div>
  </details>
`;

/** @param {Slice} slice */
const sliceName = ({ kind, name }) =>
  kind === "language" ? nameOf("lang", name) : modalityName(name);

/** @param {number | null} value */
const share = (value) => (value === null ? "–" : percent(value));

/** @param {{name: string, value: number | null, range: [number, number] | null}} props */
function Interval({ name, value, range }) {
  const at = (share) => `${100 * share}%`;
  const span = range && { left: at(range[0]), width: at(range[1] - range[0]) };
  return html`
    <li class="bar interval">
      <span class="bar-name">${name}</span>
      <span class="interval-track" aria-hidden="true">
        ${range && html`<span class="interval-range" style=${span}></span>`}
        ${value !== null && html`<span class="interval-value" style=${{ left: at(value) }}></span>`}
      </span>
      <span class="bar-value">${share(value)}
        ${
          range &&
          html`<br /><span class="small">${percent(range[0], 0)} – ${percent(range[1], 0)}</span>`
        }
      </span>
    </li>
  `;
}
