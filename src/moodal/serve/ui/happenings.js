/** What is out of bounds now, and what has happened to the model. */

import { html } from "./vendor/htm-preact.module.js";
import { language, nameOf, number, t, when } from "./words.js";

/** @param {{alerts: object[]}} props */
export function Alerts({ alerts }) {
  const open = alerts.filter((alert) => alert.cleared === null);
  const over = alerts.filter((alert) => alert.cleared !== null);
  return html`
    ${open.map((alert) => html`
      <div class="notice caution" role="alert" key=${alert.name}>
        <p><strong>${language() === "zh" ? alert.sentence_zh : alert.sentence}</strong></p>
        <p class="small">${t("alert.numbers", { value: number(alert.value, 3), limit: number(alert.limit, 3), when: when(alert.raised) })}</p>
      </div>`)}
    ${over.length > 0 &&
    html`<details class="more"><summary>${t("alert.over", { n: over.length })}</summary>
      <ul>${over.map((alert) => html`<li>${language() === "zh" ? alert.sentence_zh : alert.sentence} <span class="small muted">${when(alert.raised)} – ${when(alert.cleared)}</span></li>`)}</ul>
    </details>`}
  `;
}

/** @param {{look: {events: {id: string, at: number, change: string, model: string, name: string}[], models: Record<string, number>}}} props */
export const Events = ({ look: { events, models } }) => html`
  <section class="card events">
    <h2>${t("events.title")}</h2>
    ${events.length === 0
      ? html`<p class="muted">${t("events.none")}</p>`
      : html`<ul class="timeline">
          ${events.map((event) => html`
            <li key=${event.id} class=${event.change}>
              <strong>${nameOf("change", event.change)}</strong>${" "}
              <span>${event.name}</span> <code>${event.model}</code>
              <span class="small muted">${when(event.at)}</span>
            </li>`)}
        </ul>`}
    ${Object.keys(models).length > 0 &&
    html`<p class="print"><span>${t("events.answers")}</span>
      ${Object.entries(models).map(([version, n]) => html`<span><code>${version}</code> ${number(n)}</span>`)}</p>`}
  </section>
`;
