/** What is out of bounds now, and what has happened to the model. */

import { html } from "./vendor/htm-preact.module.js";
import { language, nameOf, number, t, when } from "./words.js";

/** @param {{alerts: object[]}} props */
export function Alerts({ alerts }) {
  const open = alerts.filter((alert) => alert.cleared === null);
  const over = alerts.filter((alert) => alert.cleared !== null);
  return html`
    ${open.map(
      (alert) => html`
      <div class="notice caution" role="alert" key=${alert.name}>
        <p><strong>${sentence(alert)}</strong></p>
        <p class="small">${numbers(alert)}</p>
      </div>`,
    )}
    ${
      over.length > 0 &&
      html`<details class="more"><summary>${t("alert.over", { n: over.length })}</summary>
      <ul>${over.map(
        (alert) => html`
        <li>
          ${sentence(alert)}${" "}
          <span class="small muted">${when(alert.raised)} – ${when(alert.cleared)}</span>
        </li>`,
      )}
      </ul>
    </details>`
    }
  `;
}

/** @param {{sentence: string, sentence_zh: string}} alert */
const sentence = (alert) => (language() === "zh" ? alert.sentence_zh : alert.sentence);

/** @param {{value: number, limit: number, raised: number}} alert */
const numbers = ({ value, limit, raised }) =>
  t("alert.numbers", { value: number(value, 3), limit: number(limit, 3), when: when(raised) });

/** @param {{look: object}} props as GET /v1/monitor gives it */
export const Events = ({ look: { events, models } }) => html`
  <section class="card events">
    <h2>${t("events.title")}</h2>
    ${
      events.length === 0
        ? html`<p class="muted">${t("events.none")}</p>`
        : html`<ul class="timeline">
          ${events.map(
            (event) => html`
            <li key=${event.id} class=${event.change}>
              <strong>${nameOf("change", event.change)}</strong>${" "}
              <span>${event.name}</span> <code>${event.model}</code>${" "}
              <span class="small muted">${when(event.at)}</span>
            </li>`,
          )}
        </ul>`
    }
    ${
      Object.keys(models).length > 0 &&
      html`<p class="print"><span>${t("events.answers")}</span>
      ${Object.entries(models).map(([version, n]) => html`<span><code>${version}</code> ${number(n)}</span>`)}</p>`
    }
  </section>
`;
