/** Where the service wants a key: a field for it. */

import { html, useState } from "./vendor/htm-preact.module.js";
import { setKey } from "./api.js";
import { Dialog } from "./dialog.js";
import { t } from "./words.js";

/** @param {{refused: boolean, resolve: () => void, reject: () => void}} props refused: the last key was not known */
export function Door({ refused, resolve, reject }) {
  const [value, setValue] = useState("");
  const submit = (event) => {
    event.preventDefault();
    setKey(value.trim());
    resolve();
  };
  return html`
    <${Dialog} title=${t("door.title")} close=${reject}>
      <form onSubmit=${submit}>
        <p>${t("door.why")}</p>
        ${refused && html`<p class="caution-text" role="alert">${t("door.refused")}</p>`}
        <label>${t("door.key")}
          <input type="password" required autofocus autocomplete="current-password" value=${value}
            onInput=${(event) => setValue(event.currentTarget.value)} />
        </label>
        <p class="small muted">${t("door.kept")}</p>
        <button type="submit">${t("door.open")}</button>
      </form>
    <//>
  `;
}
