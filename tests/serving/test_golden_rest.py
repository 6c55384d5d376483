"""What TensorFlow Serving was measured to answer is what `rest.answer` answers: status, type, every text and number."""

from __future__ import annotations

import pytest

from medkeras.serving import options, rest
from tests.serving import golden

VECTORS = [vector for vector in golden.load() if vector.of_the_api]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_the_answer_is_the_measured_one(golden_registry, vector):
    answer = rest.answer(vector.request, golden_registry, options.Options())

    assert answer.status == vector.status
    assert dict(answer.headers)["Content-Type"] == vector.content_type
    assert vector.answered(answer.body) == vector.expected


def test_all_but_those_of_the_http_server_are_answered_here(golden_folder):
    assert (len(golden.load()), len(VECTORS)) == (263, 252)
