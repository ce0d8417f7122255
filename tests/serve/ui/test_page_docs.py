"""/docs: the OpenAPI document for people, and a call from it."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.serve.conftest import Running
from tests.serve.ui.conftest import Visit


def test_every_operation_is_told(server: Running, visit: Visit) -> None:
    document = server.get("/openapi.json").json()
    page = visit(f"{server.url}/docs")
    told = page.locator(".operation .method")
    expect(told).to_have_count(sum(len(item) for item in document["paths"].values()))
    expect(page.get_by_text("/v1/predict/batch")).to_be_visible()


def test_a_question_can_be_asked_from_it(server: Running, visit: Visit) -> None:
    page = visit(f"{server.url}/docs")
    operation = page.locator(".operation").filter(has=page.get_by_text("/v1/predict", exact=True))
    operation.locator("summary").click()
    operation.get_by_role("textbox", name="JSON").fill('{"text": "this film was great"}')
    operation.get_by_role("button", name="Send").click()
    expect(operation.get_by_role("status")).to_contain_text("200 OK")
    expect(operation.get_by_role("status")).to_contain_text('"prediction_id"')


def test_a_form_can_be_sent_from_it(server: Running, visit: Visit) -> None:
    page = visit(f"{server.url}/docs")
    operation = page.locator(".operation").filter(has=page.get_by_text("/v1/predict", exact=True))
    operation.locator("summary").click()
    operation.get_by_role("combobox").select_option("multipart/form-data")
    operation.get_by_role("textbox", name="text").fill("this film was great")
    operation.get_by_role("button", name="Send").click()
    expect(operation.get_by_role("status")).to_contain_text("200 OK")


def test_a_refusal_is_shown_as_it_came(server: Running, visit: Visit) -> None:
    page = visit(f"{server.url}/docs", expected="422")
    operation = page.locator(".operation").filter(has=page.get_by_text("/v1/review", exact=True))
    operation.locator("summary").click()
    operation.get_by_label("limit").fill("-1")
    operation.get_by_role("button", name="Send").click()
    expect(operation.get_by_role("status")).to_contain_text("422")
    expect(operation.get_by_role("status")).to_contain_text('"field"')
