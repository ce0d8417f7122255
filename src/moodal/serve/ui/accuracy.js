/** How often the model is right: as its confidence has it, and as people have it. */

import { html } from "./vendor/htm-preact.module.js";
import { number, percent, t } from "./words.js";

/** @param {{accuracy: {estimated: number | null, estimated_interval: [number, number] | null, feedback: number | null, feedback_interval: [number, number] | null, n: number, n_feedback: number}}} props */
export const Accuracy = ({ accuracy: a }) => html`
  <figure class="card plot accuracy">
    <figcaption><h3>${t("accuracy.title")}</h3></figcaption>
    <ul class="bars">
      <${Interval} name=${t("accuracy.estimated")} value=${a.estimated} range=${a.estimated_interval} />
      <${Interval} name=${t("accuracy.feedback")} value=${a.feedback} range=${a.feedback_interval} />
    </ul>
    <p class="small muted">${t("accuracy.why", { n: number(a.n), judged: number(a.n_feedback) })}</p>
  </figure>
`;

/** @param {{name: string, value: number | null, range: [number, number] | null}} props */
function Interval({ name, value, range }) {
  const at = (share) => `${100 * share}%`;
  return html`
    <li class="bar interval">
      <span class="bar-name">${name}</span>
      <span class="interval-track" aria-hidden="true">
        ${range && html`<span class="interval-range" style=${{ left: at(range[0]), width: at(range[1] - range[0]) }}></span>`}
        ${value !== null && html`<span class="interval-value" style=${{ left: at(value) }}></span>`}
      </span>
      <span class="bar-value">${value === null ? "–" : percent(value)}
        ${range && html`<br /><span class="small">${percent(range[0], 0)} – ${percent(range[1], 0)}</span>`}</span>
    </li>
  `;
}
