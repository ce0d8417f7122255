/** One operation of the API: what goes in, what comes out, and a form that asks it. */

import { html, useState } from "./vendor/htm-preact.module.js";
import { ServiceError, ask } from "./api.js";
import { Fields, called, example, resolved } from "./schema.js";
import { t } from "./words.js";

/** @param {{document: object, method: string, path: string, operation: object}} props */
export function Operation({ document, method, path, operation }) {
  const [open, setOpen] = useState(false);
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  const parameters = operation.parameters ?? [];
  return html`
    <details class="card operation" onToggle=${(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span class="method">${method.toUpperCase()}</span>
        <code>${path}</code>
        <span class="muted">${operation.summary}</span>
      </summary>
      ${
        open &&
        html`
        ${operation.description && html`<p>${operation.description}</p>`}
        ${parameters.length > 0 && html`<h2>${t("docs.parameters")}</h2><${Fields} schema=${asSchema(parameters)} />`}
        ${bodies.map(
          ([kind, { schema }]) => html`
          <h2>${t("docs.body")} <code>${kind}</code></h2>
          <${Fields} schema=${resolved(document, schema)} />`,
        )}
        <h2>${t("docs.responses")}</h2>
        <ul class="plain small">${Object.entries(operation.responses ?? {}).map(
          ([status, response]) => html`
          <li><strong>${status}</strong> ${response.description} <code>${called(shapeOf(response))}</code></li>`,
        )}</ul>
        <${Asking} document=${document} method=${method} path=${path} parameters=${parameters} bodies=${bodies} />
      `
      }
    </details>
  `;
}

/** @param {{content?: Record<string, {schema: object}>}} response */
const shapeOf = ({ content = {} }) => Object.values(content)[0]?.schema;

/** @param {object[]} parameters as if they were the fields of one shape */
const asSchema = (parameters) => ({
  properties: Object.fromEntries(
    parameters.map((p) => [
      p.name,
      { ...p.schema, description: p.description ?? p.schema?.description },
    ]),
  ),
  required: parameters.filter((p) => p.required).map((p) => p.name),
});

/**
 * @param {object} props
 * @param {object} props.document
 * @param {string} props.method
 * @param {string} props.path
 * @param {object[]} props.parameters
 * @param {[kind: string, body: {schema: object}][]} props.bodies
 */
function Asking({ document, method, path, parameters, bodies }) {
  const [reply, setReply] = useState(null);
  const [kind, setKind] = useState(bodies[0]?.[0]);
  const schema = resolved(document, bodies.find(([name]) => name === kind)?.[1].schema);
  const begun = JSON.stringify(example(document, schema), null, 2);

  async function submit(event) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setReply({ status: "…", body: "" });
    setReply(await asked(method, address(path, parameters, form), bodyOf(kind, schema, form)));
  }

  return html`
    <form class="asking" onSubmit=${submit}>
      <h2>${t("docs.tryIt")}</h2>
      ${
        bodies.length > 1 &&
        html`<label>${t("docs.body")}
        <select value=${kind} onChange=${(event) => setKind(event.currentTarget.value)}>
          ${bodies.map(([name]) => html`<option value=${name}>${name}</option>`)}
        </select></label>`
      }
      ${parameters
        .filter((p) => p.in !== "header")
        .map(
          (p) => html`<label>${p.name}
        <input name=${`${p.in}:${p.name}`} required=${p.required} value=${p.schema?.default ?? ""} /></label>`,
        )}
      ${
        kind === "multipart/form-data" &&
        Object.entries(schema.properties).map(
          ([name, of]) => html`<label>${name}
        <input name=${`form:${name}`} type=${isFile(of) ? "file" : "text"} /></label>`,
        )
      }
      ${
        kind?.endsWith("json") &&
        html`<label>JSON
        <textarea name="json" rows="6" class="code" spellcheck="false">${begun}</textarea></label>`
      }
      <button type="submit">${t("docs.send")}</button>
      ${reply && html`<div role="status"><p><strong>${reply.status}</strong></p><pre>${reply.body}</pre></div>`}
    </form>
  `;
}

/** @param {object} of a field of a form */
const isFile = (of) => JSON.stringify(of).includes('"binary"') || "contentMediaType" in of;

/** @param {string} path @param {object[]} parameters @param {FormData} form */
function address(path, parameters, form) {
  const value = (p) => String(form.get(`${p.in}:${p.name}`) ?? "");
  const query = new URLSearchParams(
    parameters.filter((p) => p.in === "query" && value(p)).map((p) => [p.name, value(p)]),
  );
  const filled = path.replace(/\{(\w+)\}/g, (_, name) =>
    encodeURIComponent(String(form.get(`path:${name}`))),
  );
  return query.size ? `${filled}?${query}` : filled;
}

/** @param {string | undefined} kind @param {object} schema @param {FormData} form @returns {RequestInit} */
function bodyOf(kind, schema, form) {
  if (kind?.endsWith("json"))
    return { body: String(form.get("json")), headers: { "Content-Type": kind } };
  if (kind !== "multipart/form-data") return {};
  const body = new FormData();
  for (const name of Object.keys(schema.properties)) {
    const value = form.get(`form:${name}`);
    if (value instanceof File ? value.size : value) body.set(name, value);
  }
  return { body };
}

/** @param {string} method @param {string} path @param {RequestInit} options */
async function asked(method, path, options) {
  try {
    const response = await ask(path, { method: method.toUpperCase(), ...options });
    const body = await response.text();
    const json = response.headers.get("Content-Type")?.includes("json");
    return {
      status: `${response.status} ${response.statusText}`,
      body: json ? JSON.stringify(JSON.parse(body), null, 2) : body,
    };
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const { code, message, field, status } = error;
    return {
      status: String(status || ""),
      body: JSON.stringify({ error: { code, message, field } }, null, 2),
    };
  }
}
