/** What stands around every view: name, views, language, theme, help; the model at the foot. */

import { html, useState } from "./vendor/htm-preact.module.js";
import { Icon } from "./icons.js";
import { applyTheme, preference } from "./preferences.js";
import { language, setLanguage, t } from "./words.js";

/** @type {import("./preferences.js").Theme[]} */
const THEMES = ["", "light", "dark"];

const LANGUAGES = { en: { lang: "en", name: "English" }, zh: { lang: "zh-CN", name: "中文" } };
export const VIEWS = ["try", "review", "monitor"];

/** @param {{view: string, redraw: () => void, help?: () => void}} props */
export function Header({ view, redraw, help }) {
  const other = language() === "zh" ? "en" : "zh";
  const switchLanguage = () => {
    setLanguage(other);
    redraw();
  };
  return html`
    <header class="top">
      <a class="brand" href="/#try"><${Mark} />Moodal</a>
      <nav aria-label=${t("views")}>
        ${VIEWS.map(
          (name) => html`
          <a href=${`/#${name}`} aria-current=${name === view ? "page" : undefined}>${t(`view.${name}`)}</a>`,
        )}
      </nav>
      <div class="switches">
        <button type="button" class="bare" lang=${LANGUAGES[other].lang} onClick=${switchLanguage}>
          ${LANGUAGES[other].name}
        </button>
        <${ThemeSwitch} />
        ${
          help &&
          html`<button type="button" class="bare" aria-label=${t("help.title")} title=${t("help.title")}
          onClick=${help}>?</button>`
        }
      </div>
    </header>
  `;
}

function ThemeSwitch() {
  const [theme, setTheme] = useState(
    /** @type {import("./preferences.js").Theme} */ (preference("theme", "")),
  );
  const says = t(`theme.${theme || "auto"}`);
  const turn = () => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    applyTheme(next);
    setTheme(next);
  };
  return html`
    <button type="button" class="bare" aria-label=${says} title=${says} onClick=${turn}>
      <${Icon} name=${theme || "auto"} />
    </button>
  `;
}

const Mark = () => html`
  <svg class="mark" viewBox="0 0 32 32" width="24" height="24" aria-hidden="true">
    <rect width="32" height="32" rx="8" /><path d="M8 13v6M13 9v14M18 12v8M23 10v12" />
  </svg>
`;

/** @param {{model: object | null}} props */
export const Footer = ({ model }) => html`
  <footer class="foot">
    ${model && html`<span>${t("foot.model", { name: model.name, version: model.version })}</span>`}
    <a href="/docs">${t("foot.docs")}</a>
    <a href="/metrics">${t("foot.metrics")}</a>
  </footer>
`;
