"""The OpenAPI document, held against the server by Schemathesis."""

import pytest

from reelsense.serving.limits import Limits
from reelsense.serving.openapi import document
from reelsense.serving.routes import OPEN, PAGES, routes_of
from reelsense.serving.service import Service


def test_it_names_every_address_and_no_other(here):
    routes, _ = routes_of(Service(Limits(), here.service.access, dict))
    paths = set(routes) - {"/models"} | {"/models/{name}"}
    described = set(document(Limits(), False)["paths"])
    assert described <= paths
    files = {path for path in paths - described if "." in path}
    assert paths - described - files == set(PAGES.values()) - {"/"}
    assert described >= OPEN


def test_it_says_the_limits_of_this_server():
    schemas = document(Limits(texts=7, characters=9), False)["components"]["schemas"]
    assert schemas["Text"]["maxLength"] == 9
    assert schemas["PredictTexts"]["properties"]["texts"]["maxItems"] == 7
    assert '"maxItems": 256' not in str(schemas).replace("'", '"')


def test_its_examples_are_what_is_answered(here):
    for path, methods in document(Limits(), False)["paths"].items():
        if "post" in methods:
            content = methods["post"]["requestBody"]["content"]["application/json"]["example"]
            answer = here.post(path.replace("{name}", "x"), content)
            assert answer.status_code == 200


@pytest.mark.slow
def test_schemathesis_finds_nothing(start):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    server = start("--max-wait", "10")
    rejected = {
        "negative_data_rejection": {"expected-statuses": [400, 401, 404, 405, 413, 415, 422]}
    }
    schema = schemathesis.openapi.from_url(
        f"http://127.0.0.1:{server.port}/openapi.json",
        config=schemathesis.Config.from_dict({"checks": rejected}),
    )
    modes = schemathesis.GenerationMode
    wrong = []
    for found in schema.get_all_operations():
        operation = found.ok()
        cases = operation.as_strategy()
        if operation.method == "post":  # requests that do not fit as well
            cases = st.one_of(cases, operation.as_strategy(generation_mode=modes.NEGATIVE))

        @seed(1)
        @settings(max_examples=50, deadline=None, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(cases)
        def holds(case):
            case.call_and_validate()

        try:
            holds()
        except Exception as error:
            wrong.append(f"{operation.label}: {str(error)[:2000]}")
    assert not wrong, "\n\n".join(wrong)
    assert server.end() == (0, "")
