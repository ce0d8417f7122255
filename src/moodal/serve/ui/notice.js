/** What the page says when there is no answer: still waiting, or why not and what to do. */

import { html } from "./vendor/htm-preact.module.js";
import { t } from "./words.js";

/** Sentences for what a user can do something about; the service's own words stand beneath. */
const KNOWN = {
  400: "error.invalid",
  401: "error.key",
  403: "error.forbidden",
  404: "error.gone",
  413: "error.large",
  415: "error.type",
  422: "error.invalid",
  429: "error.rate",
  500: "error.broken",
  503: "error.busy",
};

/** @typedef {Error & {status?: number, wait?: number, field?: string}} Failed of the service or of a device */

/** @param {Failed} error */
function sentence(error) {
  if (error.name === "NotAllowedError") return t("error.notAllowed");
  if (error.name === "NotFoundError") return t("error.noDevice");
  const key = KNOWN[error.status ?? 0];
  return key ? t(key, { seconds: error.wait || 1 }) : error.message;
}

/** @param {{error: Failed, again?: () => void}} props again: asks the same once more */
export function Failure({ error, again }) {
  const plain = sentence(error);
  return html`
    <div class="notice failure" role="alert">
      <p><strong>${plain}</strong></p>
      ${
        plain !== error.message &&
        error.status &&
        html`<p class="small" lang="en">
        ${error.field && html`<code>${error.field}</code> `}${error.message}
      </p>`
      }
      ${again && html`<button type="button" class="quiet" onClick=${again}>${t("again")}</button>`}
    </div>
  `;
}

/** @param {{children: unknown}} props */
export const Waiting = ({ children }) => html`<p class="waiting" aria-busy="true">${children}</p>`;

/** @param {{title: string, children: unknown}} props */
export const Empty = ({ title, children }) => html`
  <div class="empty"><p class="empty-title">${title}</p><p>${children}</p></div>
`;
