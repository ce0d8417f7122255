/** A window over the page; the browser keeps the focus inside and closes it on Escape. */

import { html, useLayoutEffect, useRef } from "./vendor/htm-preact.module.js";
import { Icon } from "./icons.js";
import { t } from "./words.js";

/** @param {{title: string, close: () => void, children: unknown, actions?: unknown}} props */
export function Dialog({ title, close, children, actions }) {
  const dialog = useRef(null);
  useLayoutEffect(() => {
    const node = dialog.current;
    node.showModal();
    return () => node.close(); // gives the focus back to what had it
  }, []);
  const cancelled = (event) => {
    event.preventDefault(); // the component, not the browser, takes it away
    close();
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${cancelled}>
      <article>
        <header>
          <h2 id="dialog-title">${title}</h2>
          <button type="button" class="bare" aria-label=${t("close")} onClick=${close}><${Icon} name="close" /></button>
        </header>
        ${children}
        ${actions && html`<footer>${actions}</footer>`}
      </article>
    </dialog>
  `;
}
