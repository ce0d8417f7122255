"""The peer: FastAPI, one process, the same model, answers one by one in its thread pool."""

from __future__ import annotations

import base64
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import moodal

model = moodal.load()
model.warm()
app = FastAPI()


class Body(BaseModel):
    text: str | None = None
    image: str | None = None
    audio: str | None = None


@app.post("/v1/predict")
def predict(body: Body) -> dict[str, Any]:
    image = None if body.image is None else base64.b64decode(body.image)
    audio = None if body.audio is None else base64.b64decode(body.audio)
    return model.predict(text=body.text, image=image, audio=audio).to_dict()


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
