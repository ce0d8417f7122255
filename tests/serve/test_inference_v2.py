"""The protocol v2 as real clients speak it, and everything it may be sent that is wrong."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from moodal.runtime.predict import Model
from moodal.serve import keys
from tests import tiny
from tests.serve.conftest import Running
from tests.serve.v2 import answers, post, tensor, texts

LENGTH = "inference-header-content-length"
RNG = np.random.default_rng(0)
PICTURE = tiny.png(tiny.picture("good", RNG))
SOUND = tiny.wav(tiny.tone("bad", RNG))
OUTPUTS = ["label", "probabilities", "confidence", "prediction_id", "answer"]


@pytest.fixture
def client(server: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"{server.host}:{server.port}", concurrency=4) as client:
        yield client


@pytest.fixture
def name(server: Running) -> str:
    return server.service.model.info.name


# The questions of Triton's client


def test_the_server_and_the_model_are_alive_and_ready(
    client: triton.InferenceServerClient, name: str, server: Running
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, server.service.version)
    assert not client.is_model_ready(name, "1")
    assert not client.is_model_ready("another")


def test_metadata_say_what_goes_in_and_what_comes_out(
    client: triton.InferenceServerClient, name: str, server: Running
) -> None:
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata(name)
    assert about == client.get_model_metadata(name, server.service.version)
    assert (about["name"], about["versions"]) == (name, [server.service.version])
    assert about["inputs"] == [
        {"name": m, "datatype": "BYTES", "shape": [-1]} for m in ("text", "image", "audio")
    ]
    shapes = {o["name"]: (o["datatype"], o["shape"]) for o in about["outputs"]}
    assert list(shapes) == OUTPUTS
    assert shapes["probabilities"] == ("FP64", [-1, 3])
    assert shapes["label"] == ("BYTES", [-1])


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("deep", [False, True])
def test_rows_are_answered_as_predict_answers_them(
    client: triton.InferenceServerClient, name: str, binary: bool, deep: bool
) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "this film was great"},
        {"image": PICTURE},
        {"text": "这个房间真的很糟糕", "audio": SOUND},
        {"text": "okay", "image": PICTURE, "audio": SOUND},
    ]

    def sent(value: str | bytes) -> Any:
        plain = value if binary or isinstance(value, str) else base64.b64encode(value)
        return [plain] if deep else plain

    given = [
        tensor(m, [sent(row.get(m, b"")) for row in rows], binary=binary)
        for m in ("text", "image", "audio")
    ]
    wanted = [triton.InferRequestedOutput(output, binary_data=binary) for output in OUTPUTS]
    result = client.infer(name, given, outputs=wanted, request_id="seven")
    model = Model(tiny.train_once())
    assert result.get_response()["id"] == "seven"
    assert result.as_numpy("probabilities").shape == (4, 3)
    for row, (asked, told) in enumerate(zip(rows, answers(result), strict=True)):
        expected = model.predict(**asked).to_dict()
        assert texts(result.as_numpy("label"))[row] == told["label"] == expected["label"]
        np.testing.assert_allclose(
            result.as_numpy("probabilities")[row], list(expected["probabilities"].values()), 1e-5
        )
        assert result.as_numpy("confidence")[row] == pytest.approx(expected["confidence"], 1e-5)
        assert told["modalities"] == list(expected["modalities"])
        assert texts(result.as_numpy("prediction_id"))[row] == told["prediction_id"]


def test_without_a_wish_all_outputs_come_and_as_bytes(
    client: triton.InferenceServerClient, name: str
) -> None:
    result = client.infer(name, [tensor("text", ["superb"])])
    told = result.get_response()["outputs"]
    assert [output["name"] for output in told] == OUTPUTS
    assert all("binary_data_size" in output["parameters"] for output in told)
    assert len(answers(result)) == 1


def test_only_the_wished_outputs_come_in_their_order_and_each_as_wished(
    client: triton.InferenceServerClient, name: str
) -> None:
    wanted = [
        triton.InferRequestedOutput("confidence", binary_data=False),
        triton.InferRequestedOutput("label", binary_data=True),
    ]
    result = client.infer(name, [tensor("text", ["superb", "糟糕"])], outputs=wanted)
    one, other = result.get_response()["outputs"]
    assert (one["name"], one["shape"], "data" in one) == ("confidence", [2], True)
    assert (other["name"], other["shape"], "data" in other) == ("label", [2], False)
    assert len(texts(result.as_numpy("label"))) == 2
    assert result.as_numpy("probabilities") is None


def test_requests_may_overlap(client: triton.InferenceServerClient, name: str) -> None:
    words = [word for label in tiny.LABELS for word in tiny.WORDS[label]]
    waiting = [client.async_infer(name, [tensor("text", [word])]) for word in words]
    told = [answers(request.get_result())[0]["label"] for request in waiting]
    together = answers(client.infer(name, [tensor("text", words)]))
    assert told == [answer["label"] for answer in together]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_request_may_be_compressed(
    client: triton.InferenceServerClient, name: str, algorithm: str
) -> None:
    result = client.infer(
        name,
        [tensor("text", ["superb"]), tensor("image", [PICTURE])],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert answers(result)[0]["modalities"] == ["text", "image"]


def test_an_explanation_is_a_parameter(client: triton.InferenceServerClient, name: str) -> None:
    given = [tensor("text", ["this film was great"])]
    [plain] = answers(client.infer(name, given))
    [explained] = answers(client.infer(name, given, parameters={"explain": True}))
    assert plain["words"] == []
    assert "great" in [word for word, _ in explained["words"]]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([tensor("text", [["a", "b"]])], r"shape \[1, 2\].*\[B\] or \[B, 1\]"),
        ([tensor("text", ["a", "b"]), tensor("image", [PICTURE])], r"text \[2\], image \[1\]"),
        ([tensor("text", ["a"]), tensor("text", ["b"])], "each input once"),
        ([tensor("smell", ["a"])], "no such input; inputs are text, image, audio"),
        ([tensor("text", [""] * 65)], "65 rows, at most 64"),
        ([triton.InferInput("text", [1], "BYTES")], "data"),
        (
            [triton.InferInput("text", [1], "BYTES").set_shared_memory("here", 8)],
            "shared memory is not read",
        ),
    ],
)
def test_wrong_tensors_are_a_sentence_for_the_client(
    client: triton.InferenceServerClient, name: str, given: list[Any], says: str
) -> None:
    with pytest.raises(InferenceServerException, match=says) as caught:
        client.infer(name, given)
    assert caught.value.status() in ("400", "413")


@pytest.mark.parametrize(("numpy_type", "datatype"), [("f4", "FP32"), ("i8", "INT64")])
def test_numbers_for_words_are_refused(
    client: triton.InferenceServerClient, name: str, numpy_type: str, datatype: str
) -> None:
    given = triton.InferInput("text", [1, 1], datatype)
    given.set_data_from_numpy(np.zeros((1, 1), numpy_type))
    with pytest.raises(InferenceServerException, match=f"datatype {datatype}.*BYTES"):
        client.infer(name, [given])


def test_an_unknown_output_or_model_is_refused(
    client: triton.InferenceServerClient, name: str
) -> None:
    given = [tensor("text", ["a"])]
    with pytest.raises(InferenceServerException, match="no output 'mood'"):
        client.infer(name, given, outputs=[triton.InferRequestedOutput("mood")])
    with pytest.raises(InferenceServerException, match="classification"):
        client.infer(name, given, outputs=[triton.InferRequestedOutput("label", class_count=2)])
    with pytest.raises(InferenceServerException, match="no model 'another'"):
        client.infer("another", given)
    with pytest.raises(InferenceServerException, match="version 9"):
        client.infer(name, given, model_version="9")
    with pytest.raises(InferenceServerException, match="has no"):
        client.get_model_config(name)


def test_a_bad_row_fails_alone(client: triton.InferenceServerClient, name: str) -> None:
    result = client.infer(
        name,
        [
            tensor("text", ["superb", "", b"\xff\xfe", "lovely"]),
            tensor("image", [b"", b"no picture", b"", b""]),
        ],
    )
    told = answers(result)
    assert ["error" in answer for answer in told] == [False, True, True, False]
    assert [answer["error"]["field"] for answer in told[1:3]] == ["image", "text"]
    assert [bool(label) for label in texts(result.as_numpy("label"))] == [True, False, False, True]
    assert result.as_numpy("probabilities")[1:3].tolist() == [[0, 0, 0]] * 2


def test_a_request_without_a_good_row_is_refused(
    client: triton.InferenceServerClient, name: str
) -> None:
    with pytest.raises(InferenceServerException, match="image: ") as caught:
        client.infer(name, [tensor("image", [b"no picture"])])
    assert caught.value.status() == "400"


def test_refusals_are_counted(
    client: triton.InferenceServerClient, name: str, server: Running
) -> None:
    def counted() -> float:
        told = server.get("/metrics").body.decode()
        found = re.search(r'^moodal_errors_total{code="media_type"} (\S+)$', told, re.MULTILINE)
        return float(found[1]) if found else 0

    before = counted()
    packed = {"content-encoding": "br"}
    with pytest.raises(InferenceServerException, match="content encoding"):
        client.infer(name, [tensor("text", ["superb"])], headers=packed)
    assert counted() == before + 1


def test_rows_go_to_the_journal_as_v2(
    client: triton.InferenceServerClient, name: str, server: Running
) -> None:
    result = client.infer(name, [tensor("text", ["superb"])])
    [id] = texts(result.as_numpy("prediction_id"))
    assert server.service.spool.flush(10)
    served = server.service.journal.find(id)
    assert served is not None
    assert served.source == "v2"


# The questions of KServe's client (kserve.InferenceRESTClient), which are plain HTTP


def test_what_kserve_asks_is_answered_as_it_reads_it(server: Running, name: str) -> None:
    assert server.get("/v2/health/live").json() == {"live": True}
    assert server.get("/v2/health/ready").json() == {"ready": True}
    assert server.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
    assert server.get("/v2/models/another/ready").status == 404
    request = {
        "id": "1",
        "model_name": name,
        "from_grpc": False,
        "parameters": {},
        "inputs": [
            {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["lovely"], ["糟糕"]]}
        ],
    }
    reply = post(server, name, request)
    told = reply.json()
    assert LENGTH not in reply.headers
    assert (told["id"], told["model_name"]) == ("1", name)
    assert told["model_version"] == server.service.version
    data = {output["name"]: output["data"] for output in told["outputs"]}
    assert len(data["probabilities"]) == 6  # row-major and flat
    assert sum(data["probabilities"][:3]) == pytest.approx(1)


def test_bytes_come_under_any_content_type(server: Running, name: str) -> None:
    raw = struct.pack("<I", 6) + b"lovely"
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "text",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(raw)},
                }
            ]
        }
    ).encode()
    headers = {LENGTH: str(len(head)), "content-type": "application/octet-stream"}
    reply = server.request("POST", f"/v2/models/{name}/infer", head + raw, headers)
    assert reply.status == 200
    assert reply.json()["outputs"][0]["name"] == "label"


def test_unknown_paths_answer_in_the_protocols_shape(server: Running) -> None:
    for path in ("/v2/repository/index", "/v2/models", "/v2/nothing"):
        reply = server.get(path)
        assert (reply.status, list(reply.json())) == (404, ["error"])


def test_a_known_path_says_which_methods_it_knows(server: Running, name: str) -> None:
    for path, method, allowed in (
        ("/v2/health/live", "POST", "GET"),
        (f"/v2/models/{name}/infer", "GET", "POST"),
        (f"/v2/models/{name}/versions/1/infer", "DELETE", "POST"),
    ):
        reply = server.request(method, path)
        assert (reply.status, reply.headers["allow"]) == (405, allowed)
        assert list(reply.json()) == ["error"]


def test_a_key_is_needed_for_all_but_health(start: Any, tmp_path: Path) -> None:
    key = keys.add(tmp_path / "keys", "triton")
    server = start(api_keys=tmp_path / "keys")
    name = server.service.model.info.name
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        given = [tensor("text", ["lovely"])]
        assert client.is_server_live()
        assert client.is_server_ready()
        assert not client.is_model_ready(name)
        for ask in (lambda: client.get_model_metadata(name), lambda: client.infer(name, given)):
            with pytest.raises(InferenceServerException, match="no API key") as caught:
                ask()
            assert caught.value.status() == "401"
        headers = {"Authorization": f"Bearer {key}"}
        assert client.is_model_ready(name, headers=headers)
        result = client.infer(name, given, headers=headers)
    [id] = texts(result.as_numpy("prediction_id"))
    assert server.service.spool.flush(10)
    assert server.service.journal.find(id).caller == "triton"


def test_rows_count_for_the_rate(start: Any) -> None:
    server = start(limits={"rate": 5})
    name = server.service.model.info.name
    with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
        client.infer(name, [tensor("text", ["a", "b", "c"])])
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, [tensor("text", ["a", "b", "c"])])
    assert caught.value.status() == "429"
