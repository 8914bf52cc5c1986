"""Who may ask: hosts, tokens, pages of other sites; and what every answer says to browsers."""

import pytest

from reelsense.serving.limits import Access

ALWAYS = {
    "x-content-type-options": "nosniff", "x-frame-options": "DENY",
    "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
}  # fmt: skip


def test_every_answer_has_the_headers(here):
    for answer in (
        here.get("/"), here.get("/v1/model"), here.get("/nothing"), here.get("/healthz"),
        here.post("/v1/predict", b"{"), here.get("/v1/model", headers={"Host": "evil.example"}),
    ):  # fmt: skip
        assert ALWAYS.items() <= dict(answer.headers).items()
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("localhost", True), ("LOCALHOST:8000", True), ("127.0.0.1:1", True), ("[::1]:80", True),
        ("[::1]", True), ("localhost.", True), ("evil.example", False), ("", False),
        ("localhost.evil.example", False), ("127.0.0.1.evil.example:80", False),
        ("localhost:80:80", False), ("localhost@evil.example", False), ("::1", False),
    ],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(here, refused, host, fine):
    answer = here.get("/v1/model", headers={"Host": host})
    assert answer.status_code == (200 if fine else 400)
    if not fine:
        refused(answer, 400, "wrong_host")
        assert here.get("/healthz", headers={"Host": host}).status_code == 200


def test_more_names_and_all_names(served, model):
    here = served(model, access=Access(frozenset({"reviews.example"})))
    assert here.get("/v1/model", headers={"Host": "reviews.example:80"}).status_code == 200
    assert here.get("/v1/model").status_code == 400
    here = served(model, access=Access(frozenset({"*"})))
    assert here.get("/v1/model", headers={"Host": "anything"}).status_code == 200


def test_the_token_guards_what_answers_about_texts_and_what_counts(served, model, refused):
    here = served(model, access=Access(token="s3cret"))
    assert "s3cret" not in repr(here.service.access)
    for wrong in (
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"},
        {"Authorization": "s3cret"}, {"Authorization": b"Bearer \xff"},
        {"Authorization": "Bearer "},
    ):  # fmt: skip
        for path in ("/v1/predict", "/v1/explain", "/predict", "/models/x", "/", "/nothing"):
            answer = here.post(path, {"text": "a"}, headers=wrong)
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/model", "/metrics"):
            refused(here.get(path, headers=wrong), 401, "unauthorized")
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
            assert here.get(path, headers=wrong).status_code == 200
    for right in ("Bearer s3cret", "bearer  s3cret"):
        answer = here.post("/v1/predict", {"text": "a"}, headers={"Authorization": right})
        assert answer.status_code == 200
    assert here.get("/openapi.json").json()["security"] == [{"token": []}]


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Origin": "https://page.example"}


def test_pages_of_other_sites_only_where_it_was_said(served, model, refused):
    here = served(model)
    refused(here.ask("OPTIONS", "/v1/predict", headers=PREFLIGHT), 405, "wrong_method")
    access = Access(token="x", origins=frozenset({"https://page.example"}))
    here = served(model, access=access)
    asked = here.ask("OPTIONS", "/v1/predict", headers=PREFLIGHT)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == "https://page.example"
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    origin = {"Origin": "https://page.example"}
    answer = here.post("/v1/predict", {"text": "a"}, headers=origin)
    refused(answer, 401, "unauthorized")
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["vary"] == "Origin"
    other = {"Origin": "https://other.example"}
    assert "access-control-allow-origin" not in here.get("/healthz", headers=other).headers
    answer = here.ask("OPTIONS", "/v1/predict", headers={**PREFLIGHT, **other})
    refused(answer, 401, "unauthorized")


def test_all_sites(served, model):
    here = served(model, access=Access(origins=frozenset({"*"})))
    answer = here.get("/v1/model", headers={"Origin": "https://any.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in here.get("/v1/model").headers
