"""The peer: LitServe, one worker, the same model, batches of what waits (its own batching).

Annotations are values here, not strings: LitServe reads them to know what a request is.
"""

import base64
import sys
from typing import Any

import litserve

import moodal

BATCH = 32
WAIT_SECONDS = 0.001


class Api(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        self.model = moodal.load()
        self.model.warm()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        media = {m: base64.b64decode(request[m]) for m in ("image", "audio") if m in request}
        return {"text": request.get("text"), **media}

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [answer.to_dict() for answer in self.model.predict_many(records)]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Api(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS, api_path="/v1/predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", log_level="warning", generate_client_file=False
    )
