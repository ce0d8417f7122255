"""What a person does at a page beyond clicking, and what there is to see of it."""

from __future__ import annotations

from playwright.sync_api import Page


def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    """Let a file fall on the form, as if from the desktop."""
    handle = page.evaluate_handle(
        """([name, type, bytes]) => {
            const dropped = new DataTransfer();
            dropped.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return dropped;
        }""",
        [name, kind, list(content)],
    )
    page.locator("form.ask").dispatch_event("drop", {"dataTransfer": handle})


def until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript holds; page.wait_for_function would need eval, which
    the page's policy forbids."""
    page.evaluate(
        f"""() => new Promise((done, late) => {{
            const end = performance.now() + 20000;
            const look = () => {{
                if ({expression}) done();
                else if (performance.now() > end) late(new Error("not in time"));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
    )


def ink(page: Page, canvas: str, colour: tuple[int, int, int] | None = None) -> int:
    """How many pixels of a canvas are drawn on; in one colour, or in any."""
    return int(
        page.locator(canvas).first.evaluate(
            """(canvas, colour) => {
                const { width, height } = canvas;
                const pen = new OffscreenCanvas(width, height)
                    .getContext("2d", { willReadFrequently: true });
                pen.drawImage(canvas, 0, 0);
                const { data } = pen.getImageData(0, 0, width, height);
                let drawn = 0;
                for (let at = 0; at < data.length; at += 4) {
                    const near = (part, i) => Math.abs(data[at + i] - part) < 8;
                    drawn += data[at + 3] > 0 && (colour === null || colour.every(near));
                }
                return drawn;
            }""",
            colour,
        )
    )


def overflowing(page: Page) -> list[str]:
    """What sticks out of the page or of its card to the right."""
    return list(
        page.evaluate(
            """() => [...document.querySelectorAll("body *")].filter((element) => {
                const elsewhere = element.closest(".unseen, .skip, .scroll > *");
                if (elsewhere || !element.checkVisibility()) return false;
                const edge = element.closest(".card")?.getBoundingClientRect().right ?? innerWidth;
                return element.getBoundingClientRect().right > edge + 0.5;
            }).map((element) => element.outerHTML.slice(0, 100))"""
        )
    )


def faint(page: Page) -> list[str]:
    """Words with less than 4.5 to 1 of contrast against the colours behind them.

    Source: WCAG 2.2, definitions of relative luminance and of contrast ratio.
    """
    return list(
        page.evaluate(
            """() => {
                const options = { willReadFrequently: true };
                const pen = new OffscreenCanvas(1, 1).getContext("2d", options);
                const over = (colours) => {
                    pen.clearRect(0, 0, 1, 1);
                    for (const colour of colours) {
                        pen.fillStyle = colour;
                        pen.fillRect(0, 0, 1, 1);
                    }
                    return pen.getImageData(0, 0, 1, 1).data.slice(0, 3);
                };
                const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
                const luminance = (rgb) => [0.2126, 0.7152, 0.0722]
                    .reduce((sum, weight, i) => sum + weight * linear(rgb[i] / 255), 0);
                const found = [];
                const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
                while (walk.nextNode()) {
                    const words = walk.currentNode.textContent.trim();
                    const element = walk.currentNode.parentElement;
                    const unread = element.closest(".unseen, script, :disabled");
                    if (!words || unread || !element.checkVisibility()) continue;
                    const grounds = [];
                    for (let at = element; at; at = at.parentElement)
                        grounds.unshift(getComputedStyle(at).backgroundColor);
                    const ground = over(grounds);
                    const ink = over([...grounds, getComputedStyle(element).color]);
                    const [a, b] = [luminance(ground), luminance(ink)].sort((x, y) => y - x);
                    const ratio = (a + 0.05) / (b + 0.05);
                    if (ratio < 4.5) found.push(`${words.slice(0, 40)}: ${ratio.toFixed(2)}`);
                }
                return found;
            }"""
        )
    )
