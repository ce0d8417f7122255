"""A few answers from the model that comes with the package, then the service with its page.

With CI set in the environment the service checks itself and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MOODAL = Path(sys.executable).with_name("moodal")
PLACE = Path("demo")
TEXTS = (
    "服务太慢了，再也不来了",
    "房间干净，前台也很热情，下次还住这里",
    "The plot is thin, but I could not stop laughing.",
    "not bad at all!",
    "Das Frühstück war leider ungenießbar.",
)
PATIENCE_SECONDS = 30


def moodal(*given: str) -> list[str]:
    print("\n$ moodal", *(f'"{word}"' if " " in word else word for word in given), flush=True)
    return [str(MOODAL), *given]


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    for text in TEXTS:
        subprocess.run(moodal("predict", "--text", text), check=True)
    places = ("--store", f"sqlite:///{PLACE}/moodal.sqlite", "--keep-inputs", str(PLACE / "inputs"))
    if os.environ.get("CI"):
        check(moodal("serve", "--port", str(free_port()), *places))
        return
    print("\nThe page opens at the address below; Ctrl-C stops it.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(moodal("serve", *places), check=True)


def check(command: list[str]) -> None:
    """Start the service, use it once as its page does, stop it."""
    service = f"http://127.0.0.1:{command[command.index('--port') + 1]}"
    process = subprocess.Popen(command)
    try:
        wait_for(f"{service}/readyz", process)
        assert "<title>Moodal" in get(f"{service}/"), "the page is not there"
        answer = ask(f"{service}/v1/predict", {"text": TEXTS[0], "explain": True})
        print(json.dumps(answer, ensure_ascii=False)[:300], flush=True)
        assert answer["label"] == "negative", answer
        correction = {"prediction_id": answer["prediction_id"], "label": "neutral"}
        ask(f"{service}/v1/feedback", correction)
        waiting = json.loads(get(f"{service}/v1/review"))
        assert answer["prediction_id"] in json.dumps(waiting), "the correction did not arrive"
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_SECONDS)
    assert code == 0, f"the service stopped with {code}"
    print("The service answered, took a correction and stopped as it should.", flush=True)


def free_port() -> int:
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return int(any_free.getsockname()[1])


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=PATIENCE_SECONDS) as answer:
        return str(answer.read().decode("utf-8"))


def ask(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, json.dumps(body).encode("utf-8"), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return json.load(answer)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            get(address)
            return
        time.sleep(0.1)
    raise SystemExit("the service did not become ready")


if __name__ == "__main__":
    main()
