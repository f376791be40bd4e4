"""Whatever is sent to the API, its answer is one that its description (OpenAPI) foresees."""

import pytest

from imgpipeline_tests.fuzz.requests import fill_store, send_requests
from imgpipeline_tests.web.viewer.viewing import viewing

SEED, COUNT = 7, 3_000


@pytest.mark.slow
def test_every_answer_is_one_that_the_description_of_the_api_foresees(tmp_path):
    settings, known = fill_store(tmp_path)
    with viewing(settings) as viewer:
        tally = send_requests(str(viewer.http.base_url), known, SEED, COUNT, lambda _: None)
    assert tally.violations == []
    assert sum(tally.outcomes.values()) == COUNT
    asked = {kind for kind, outcome in tally.outcomes if outcome in ("positive 200", "positive 201")}
    assert len(asked) > 10, "the fuzzer reaches what there is"
