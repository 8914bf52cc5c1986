"""What each address answers, and how it says no."""

import asyncio
import json
from dataclasses import asdict, replace

import pytest

from reelsense.inference.predictor import load
from reelsense.serving.limits import Limits

TEXTS = ["a superb film", "an awful, boring story!", "", "the plot is ... \U0001f600 weak\x00"]


def test_one_text_and_several_get_the_answers_of_the_predictor(here, model):
    for text in TEXTS:
        assert here.post("/v1/predict", {"text": text}).json() == asdict(model(text))
    answer = here.post("/v1/predict", {"texts": TEXTS * 30}).json()
    assert answer == {"predictions": [asdict(said) for said in model(TEXTS * 30)]}


def test_an_explanation_is_that_of_the_predictor_in_code_points(here, model):
    text = "\U0001f600 superb. Not boring!"
    answer = here.post("/v1/explain", {"text": text}).json()
    why = asdict(model.explain(text))
    assert answer == json.loads(json.dumps(why))
    for word in answer["words"] + answer["sentences"]:
        assert text[word["start"] : word["end"]] == word["text"]
    assert answer["words"][0]["text"] == "\U0001f600"


def test_half_a_character_is_answered(here):
    answer = here.post("/v1/explain", b'{"text": "good \\ud800 film"}')
    assert answer.json()["words"][1]["text"] == "\ud800"
    assert here.post("/v1/predict", b'\xef\xbb\xbf{"text": "with a mark"}').status_code == 200


def test_a_model_that_cannot_explain_says_so(served, make_bundle, refused):
    here = served(load(make_bundle(dense=4, pooling="last"), threads=1))
    assert "/v1/predict" in refused(here.post("/v1/explain", {"text": "x"}), 422, "no_evidence")
    assert here.get("/v1/model").json()["evidence"] is False


def test_the_model_is_bundle_json_and_what_it_runs_on(here, model):
    card = here.get("/v1/model").json()
    assert card["figures"]["accuracy"] == 0.9
    assert card["figures"]["roc"]["threshold"] == [None, 0.5, None]  # JSON has no infinity
    assert card["recipe"]["hidden"] == 6
    assert card["confidence"] == model.confidence
    assert card["versions"] == {"reelsense": "0"}
    assert card["limits"]["texts"] == Limits().texts
    assert "files" not in card


@pytest.mark.parametrize(
    ("inputs", "listed"),
    [("a superb film", [0]), (["a superb film"], [0]), (["awful", "superb", ""], [0, 1, 2])],
)
def test_hugging_faces_shape_is_a_list_of_labels_for_each_text(here, model, inputs, listed):
    answer = here.post("/models/any/name", {"inputs": inputs, "options": {"use_cache": True}})
    texts = [inputs] if isinstance(inputs, str) else inputs
    assert len(answer.json()) == len(listed)
    for text, scores in zip(texts, answer.json(), strict=True):
        p = model(text).probability
        assert {row["label"]: row["score"] for row in scores} == {"positive": p, "negative": 1 - p}
        assert scores[0]["score"] >= scores[1]["score"]


def test_an_inference_endpoint_answers_as_a_pipeline_does(here, model, refused):
    def of(text, top=1):
        chance = model(text).probability
        scores = [
            {"label": "negative", "score": 1 - chance},
            {"label": "positive", "score": chance},
        ]
        return sorted(scores, key=lambda one: -one["score"])[:top]

    one, other = "a superb film", "dull"
    for inputs, parameters, expected in (
        (one, None, of(one)),
        ([one], {}, of(one)),
        ([one, other], {"top_k": None}, of(one) + of(other)),
        (one, {"top_k": 2}, of(one, 2)),
        ([one, other], {"top_k": 1}, [of(one), of(other)]),
    ):
        answer = here.post("/", {"inputs": inputs, "parameters": parameters})
        assert answer.json() == expected
    refused(here.post("/", {"inputs": 1}), 422, "wrong_type")
    answer = here.ask("PUT", "/", json={})
    assert "GET" in refused(answer, 405, "wrong_method")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_hugging_faces_top_k(here):
    for top, labels in ((1, 1), (1.0, 1), (2, 2), (9, 2), (None, 2)):
        answer = here.post("/models/x", {"inputs": "superb", "parameters": {"top_k": top}})
        assert len(answer.json()[0]) == labels


def test_text_embeddings_inference_tells_a_text_from_a_batch(here):
    one = here.post("/predict", {"inputs": "a superb film", "truncate": True}).json()
    assert [set(row) for row in one] == [{"label", "score"}] * 2
    assert here.post("/predict", {"inputs": ["a superb film"]}).json() == one
    other = here.post("/predict", {"inputs": "awful", "raw_scores": False}).json()
    for batch in ([["a superb film"], ["awful"]], ["a superb film", ["awful"]]):
        assert here.post("/predict", {"inputs": batch}).json() == [one, other]


WRONG = [
    (b"", "not_json"), (b"{", "not_json"), (b"\0" * 20, "not_json"),
    (b"\xff\xfe{\x00}", "not_utf_8"), (b'{"text": "\xe9"}', "not_utf_8"),
    (b"[" * 100_000, "not_json"),
    (b'{"text": ' + b"1" * 5000 + b"}", "not_json"), (b"[]", "wrong_type"), (b"null", "wrong_type"),
    (b'"text"', "wrong_type"), (b"{}", "wrong_fields"), (b'{"text": 1}', "wrong_type"),
    (b'{"text": null}', "wrong_type"), (b'{"text": ["a"]}', "wrong_type"),
    (b'{"text": "a", "texts": ["b"]}', "wrong_fields"), (b'{"txt": "a"}', "wrong_fields"),
    (b'{"texts": "a"}', "wrong_type"), (b'{"texts": []}', "wrong_type"),
    (b'{"texts": ["a", 2]}', "wrong_type"), (b'{"texts": {"a": 1}}', "wrong_type"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_read_is_422(here, refused, body, code):
    refused(here.post("/v1/predict", body), 422, code)


def test_the_message_names_the_place_and_no_text(here, refused):
    answer = here.post("/v1/predict", {"texts": ["fine", {"my private review": 1}]})
    message = refused(answer, 422, "wrong_type")
    assert '"texts[1]" must be a string, not an object' in message
    message = refused(here.post("/v1/predict", {"my private review": 1}), 422, "wrong_fields")
    assert "private" not in message


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("/v1/explain", {}, "wrong_fields"), ("/v1/explain", {"texts": ["a"]}, "wrong_fields"),
        ("/models/x", {}, "wrong_fields"), ("/models/x", {"inputs": 1}, "wrong_type"),
        ("/models/x", {"inputs": "a", "parameters": []}, "wrong_type"),
        ("/models/x", {"inputs": "a", "parameters": {"top_k": 0}}, "wrong_type"),
        ("/models/x", {"inputs": "a", "parameters": {"top_k": True}}, "wrong_type"),
        ("/models/x", {"inputs": "a", "parameters": {"function_to_apply": "none"}}, "unsupported"),
        ("/predict", {"inputs": ["a", "b"]}, "unsupported"),
        ("/predict", {"inputs": [["a", "b"]]}, "wrong_type"),
        ("/predict", {"inputs": []}, "wrong_type"), ("/predict", {"inputs": 3}, "wrong_type"),
        ("/predict", {"inputs": "a", "raw_scores": True}, "unsupported"),
    ],
)  # fmt: skip
def test_other_addresses_refuse_in_the_same_shape(here, refused, path, content, code):
    refused(here.post(path, content), 422, code)


def test_what_is_too_much_is_413(served, model, refused):
    here = served(model, limits=Limits(body=2000, texts=3, characters=50))
    message = refused(here.post("/v1/predict", {"texts": ["a"] * 4}), 413, "too_many_texts")
    assert "4 texts; send at most 3" in message
    refused(here.post("/predict", {"inputs": [["a"]] * 4}), 413, "too_many_texts")
    refused(here.post("/v1/predict", {"text": "a" * 51}), 413, "text_too_long")
    answer = here.post("/v1/predict", {"text": "a" * 2000})
    refused(answer, 413, "too_large")
    assert answer.headers["connection"] == "close"
    assert here.post("/v1/predict", {"texts": ["a" * 50] * 3}).status_code == 200


def test_no_more_is_read_than_the_limit(served, model, refused):
    here = served(model, limits=Limits(body=1000))
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 100
            yield b"a" * 100
            await asyncio.sleep(0)

    headers = {"Content-Type": "application/json"}
    answer = here.ask("POST", "/v1/predict", content=endless(), headers=headers)
    refused(answer, 413, "too_large")
    assert read <= 2 * 1000 + 200  # what comes after it is thrown away, and not for ever
    assert here.service.buffered == 0


def test_the_body_must_say_that_it_is_json(here, refused):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = here.ask("POST", "/v1/predict", content=b"{}", headers={"Content-Type": kind})
        assert "Content-Type: application/json" in refused(answer, 415, "not_json")
    answer = here.post("/v1/predict", b"{}", headers={"Content-Encoding": "gzip"})
    refused(answer, 415, "compressed")
    kind = "Application/JSON; charset=utf-8"
    headers = {"Content-Type": kind}
    assert here.post("/v1/predict", b'{"text": ""}', headers=headers).status_code == 200


def test_unknown_addresses_and_methods(here, refused):
    for path in ("/nothing", "/v1/predict/", "/static/../x", "/models", "/models/"):
        answer = here.ask("POST", path, json={"inputs": "a"})
        if path != "/models/":
            refused(answer, 404, "not_found")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = here.ask(method, "/v1/predict")
        assert "POST" in refused(answer, 405, "wrong_method")
        assert answer.headers["allow"] == "POST"
    assert here.ask("HEAD", "/v1/model").status_code == 200


def test_a_defect_is_500_without_a_word_of_the_text(served, waiting, refused, capfd):
    here = served(waiting)

    def fail(texts):
        raise ValueError(f"cannot do {texts}")

    for worker in here.service.work.workers:
        worker.model = fail
    refused(here.post("/v1/predict", {"text": "my private review"}), 500, "internal")
    said = capfd.readouterr().err
    assert said.startswith("reelsense: ValueError in fail:")
    assert "private" not in said


def test_the_page_and_its_files(here):
    page = here.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert here.get("/docs").headers["content-security-policy"].startswith("default-src 'none'; sc")
    script = here.get("/docs.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    again = here.get("/docs.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    # A browser takes the headers of a 304 for those of its copy: one for JSON locked the page up.
    again = here.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    for name in ("content-security-policy", "content-type"):
        assert again.headers[name] == page.headers[name]


def test_no_file_of_the_page_names_another_host():
    from importlib import resources

    for file in resources.files("reelsense.serving").joinpath("static").iterdir():
        text = file.read_bytes()
        for outside in (b"http://", b"https://", b'src="//', b"@import"):
            assert outside not in text.replace(b"http://www.w3.org/", b""), file


def test_counters_are_those_of_the_client(here):
    for _ in range(3):
        here.post("/v1/predict", {"texts": ["a", "b"]})
    here.post("/v1/predict", b"{")
    here.get("/nothing/my-private-review")
    here.post("/models/some/name", {"inputs": "a"})
    assert here.counted() == {
        ("/v1/predict", "200"): 3, ("/v1/predict", "422"): 1, ("other", "404"): 1,
        ("/models", "200"): 1,
    }  # fmt: skip
    shown = here.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain; version=")
    assert "private" not in shown.text
    assert "reelsense_texts_total 7.0" in shown.text
    assert "reelsense_batch_texts_sum 7.0" in shown.text
    assert 'reelsense_rejected_total{code="not_json"} 1.0' in shown.text
    assert "reelsense_queue_pieces 0.0" in shown.text
    assert 'reelsense_request_seconds_count{route="/v1/predict"} 4.0' in shown.text


def test_servers_of_one_process_count_apart(served, model):
    one, other = served(model), served(model)
    one.post("/v1/predict", {"text": "a"})
    assert ("/v1/predict", "200") not in other.counted()


def test_ready_is_a_prediction(served, model, refused):
    here = served(None)
    assert here.get("/healthz").json() == {"status": "ok"}
    refused(here.get("/readyz"), 503, "loading")
    answer = here.post("/v1/predict", {"text": "a"})
    refused(answer, 503, "loading")
    assert answer.headers["retry-after"] == "1"
    refused(here.get("/v1/model"), 503, "loading")
    here.wait(here.take(model, 1))
    assert here.get("/readyz").json() == {"status": "ready"}
    here.service.work.loaded = replace(here.service.work.loaded, probe=model("another"))
    here.service.tested = 0.0
    refused(here.get("/readyz"), 503, "unsound")
    here.service.draining = True
    refused(here.get("/readyz"), 503, "draining")
    assert here.get("/healthz").headers["connection"] == "close"
