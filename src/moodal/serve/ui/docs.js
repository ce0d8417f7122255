/** The API's documents: /openapi.json for people, each operation with a form to try it. */

import { html, render, useEffect, useState } from "./vendor/htm-preact.module.js";
import { doors, openapi } from "./api.js";
import { Door } from "./door.js";
import { Failure, Waiting } from "./notice.js";
import { Operation } from "./operation.js";
import { Fields } from "./schema.js";
import { Header } from "./shell.js";
import { t } from "./words.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];

function Documents() {
  const [document, setDocument] = useState(null);
  const [error, setError] = useState(null);
  const [door, setDoor] = useState(null);
  const [, redraw] = useState(0);

  async function load() {
    setError(null);
    try {
      setDocument(await openapi());
    } catch (failure) {
      setError(failure);
    }
  }
  useEffect(() => {
    doors.askForKey = (refused) =>
      new Promise((resolve, reject) => setDoor({ refused, resolve, reject })).finally(() =>
        setDoor(null),
      );
    load();
  }, []);

  return html`
    <${Header} view="" redraw=${() => redraw((n) => n + 1)} />
    <main id="main" class="docs">
      <h1>${t("docs.title")}</h1>
      <p class="lead">${t("docs.lead")} <a href="/openapi.json">${t("docs.document")}</a></p>
      ${error && html`<${Failure} error=${error} again=${load} />`}
      ${!document && !error && html`<${Waiting}>${t("loading")}<//>`}
      ${document && html`<${Operations} document=${document} />`}
      ${document?.components?.schemas && html`<${Shapes} schemas=${document.components.schemas} />`}
    </main>
    ${door && html`<${Door} ...${door} />`}
  `;
}

/** @param {{document: object}} props */
const Operations = ({ document }) =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map(
      (method) =>
        html`<${Operation} key=${method + path} document=${document} method=${method} path=${path}
          operation=${item[method]} />`,
    ),
  );

/** @param {{schemas: Record<string, object>}} props */
const Shapes = ({ schemas }) => html`
  <h2>${t("docs.schemas")}</h2>
  ${Object.entries(schemas).map(
    ([name, schema]) => html`
    <details class="card operation"><summary><code>${name}</code></summary>
      ${schema.description && html`<p>${schema.description}</p>`}<${Fields} schema=${schema} />
    </details>`,
  )}
`;

render(html`<${Documents} />`, window.document.body);
