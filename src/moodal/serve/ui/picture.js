/** A picture and, laid over it, where the model found what moved its answer. */

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.module.js";
import { useUrl } from "./attachment.js";
import { Legend } from "./weighted.js";
import { t } from "./words.js";

/** The colours of `moodal predict --heatmap`, and how much of them there is where it matters most. */
const FOR = [230, 120, 0];
const AGAINST = [0, 90, 200];
const OPAQUE = 0.75;

/** @param {{blob: Blob, regions?: number[][], alt: string}} props */
export function Picture({ blob, regions = [], alt }) {
  const url = useUrl(blob);
  const [heat, setHeat] = useState(true);
  const shown = heat && regions.length > 0;
  if (!url) return null;
  return html`
    <figure class="picture">
      <div class=${shown ? "picture-stack faded" : "picture-stack"}>
        <img src=${url} alt=${alt} />
        ${shown && html`<${Heat} regions=${regions} />`}
      </div>
      ${
        regions.length > 0 &&
        html`<figcaption>
        <${Legend} />
        <label class="small">
          <input type="checkbox" checked=${heat} onChange=${() => setHeat(!heat)} />${t("answer.heat")}
        </label>
      </figcaption>`
      }
    </figure>
  `;
}

/** One pixel a region; the browser smooths between them. @param {{regions: number[][]}} props */
function Heat({ regions }) {
  const canvas = useRef(null);
  useEffect(() => {
    const pen = canvas.current.getContext("2d");
    const pixels = pen.createImageData(regions[0].length, regions.length);
    const peak = Math.max(...regions.flat().map(Math.abs), 1e-9);
    regions.flat().forEach((weight, at) => {
      const alpha = Math.round((255 * OPAQUE * Math.abs(weight)) / peak);
      pixels.data.set([...(weight > 0 ? FOR : AGAINST), alpha], 4 * at);
    });
    pen.putImageData(pixels, 0, 0);
  }, [regions]);
  return html`<canvas ref=${canvas} width=${regions[0].length} height=${regions.length} aria-hidden="true"></canvas>`;
}
