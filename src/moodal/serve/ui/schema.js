/** Shapes of an OpenAPI document, as people read them. */

import { html } from "./vendor/htm-preact.module.js";
import { t } from "./words.js";

/** @typedef {Record<string, any>} Schema */

/** @param {Schema} document @param {Schema} schema a shape or a reference to one */
export function resolved(document, schema) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? document.components.schemas[name] : schema;
}

/** A shape in a few words, e.g. "array of Answer". @param {Schema} [schema] @returns {string} */
export function called(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.map(called).join(" | ");
  if (schema.type === "array") return `${called(schema.items) || "any"}[]`;
  if (schema.type === "object" && typeof schema.additionalProperties === "object")
    return `{…: ${called(schema.additionalProperties)}}`;
  return schema.format ?? schema.type ?? "any";
}

/** A value of a shape, to begin with. @param {Schema} document @param {Schema} given */
export function example(document, given) {
  const schema = resolved(document, given) ?? {};
  const told =
    schema.example ?? schema.examples?.[0] ?? schema.const ?? schema.enum?.[0] ?? schema.default;
  if (told !== undefined) return told;
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return example(document, several[0]);
  if (schema.type === "array") return schema.items ? [example(document, schema.items)] : [];
  if (schema.properties) {
    const names = schema.required ?? Object.keys(schema.properties).slice(0, 1);
    return Object.fromEntries(
      names.map((name) => [name, example(document, schema.properties[name])]),
    );
  }
  return { string: "", integer: 0, number: 0, boolean: false, object: {} }[schema.type] ?? null;
}

/** The fields of a shape. @param {{schema: Schema}} props */
export function Fields({ schema }) {
  const rows = Object.entries(schema?.properties ?? {});
  if (rows.length === 0) return html`<p class="small muted"><code>${called(schema)}</code></p>`;
  return html`
    <div class="scroll"><table><tbody>
      ${rows.map(
        ([name, of]) => html`
        <tr>
          <th scope="row"><code>${name}</code></th>
          <td><code>${called(of)}</code></td>
          <td class="small">
            ${schema.required?.includes(name) && html`<strong>${t("docs.required")}</strong> `}
            ${of.description ?? ""}
          </td>
        </tr>`,
      )}
    </tbody></table></div>
  `;
}
