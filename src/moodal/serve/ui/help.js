/** What the keys do, and how to read the colours. */

import { html, useState } from "./vendor/htm-preact.module.js";
import { Dialog } from "./dialog.js";
import { prefer, preference } from "./preferences.js";
import { labelName, t } from "./words.js";

/** @param {{close: () => void, labels: string[]}} props */
export function Help({ close, labels }) {
  const [on, setOn] = useState(preference("keys", "on") === "on");
  const toggle = () => {
    prefer("keys", on ? "off" : "");
    setOn(!on);
  };
  const row = (keys, what) =>
    html`<tr><th scope="row">${keys.map((key) => html`<kbd>${key}</kbd> `)}</th><td>${what}</td></tr>`;
  return html`
    <${Dialog} title=${t("help.title")} close=${close}>
      <table class="keys">
        <tbody>
          ${row(["Enter"], t("help.enter"))}
          ${row(["Shift", "Enter"], t("help.newline"))}
          ${labels.slice(0, 9).map((label, at) => row([at + 1], t("help.label", { label: labelName(label) })))}
          ${row(["j", "k"], t("help.move"))}
          ${row(["c"], t("help.comment"))}
          ${row(["p"], t("help.play"))}
          ${row(["?"], t("help.help"))}
          ${row(["Esc"], t("help.escape"))}
        </tbody>
      </table>
      <label><input type="checkbox" role="switch" checked=${on} onChange=${toggle} />${t("help.switch")}</label>
    <//>
  `;
}
