"""A conformance table of the REST protocol: the rule, a request, its answer. It runs everywhere, on NumPy functions."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
from tensorflow.core.example import example_pb2

from medkeras.serving import messages, options, rest, status
from tests.serving import registries

DTYPES = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "half",
    "float",
    "double",
    "string",
)


def signature(inputs, outputs, compute, **more):
    return registries.Signature(inputs, outputs, compute, **more)


def features(serialised):
    return [example_pb2.Example.FromString(one).features.feature for one in serialised]


def first(serialised, name):
    return np.array([[feature[name].float_list.value[0]] for feature in features(serialised)], np.float32)


def kinds(inputs):
    return {"classes": np.array([[b"neg", b"pos"]] * len(inputs), object)}


def scored(inputs):
    return kinds(inputs) | {"scores": np.concatenate([1 - first(inputs, "p"), first(inputs, "p")], axis=1)}


def refusing(a):
    raise status.StatusError(status.Code.UNAVAILABLE, 'full: "x"\n')


HALF = signature({"x": "float"}, {"y": "float"}, lambda x: {"y": x / 2 + 2})
SIGNATURES = {
    "serving_default": HALF,
    "two": signature(
        {"a": "float", "b": "int32"},
        {"sum": "float", "n": "int32", "label": "string", "label_bytes": "string"},
        lambda a, b: {
            "sum": a + b[:, None],
            "n": 2 * b,
            "label": b.astype(bytes).astype(object),
            "label_bytes": b.astype(bytes).astype(object),
        },
    ),
    "text": signature({"a": "string"}, {"out_bytes": "string"}, lambda a: {"out_bytes": a + b"!"}),
    "total": signature({"a": "float"}, {"s": "float"}, lambda a: {"s": a.sum()}),
    "apart": signature({"a": "float", "b": "float"}, {"a": "float", "b": "float"}, lambda a, b: {"a": a, "b": b}),
    "nothing": signature({}, {"c": "float"}, dict),
    "refusing": signature({"a": "float"}, {"y": "float"}, refusing),
    "silent": signature({"a": "float"}, {}, lambda a: {}),
    "cls": signature({"inputs": "string"}, {"classes": "string", "scores": "float"}, scored),
    "clsonly": signature({"inputs": "string"}, {"classes": "string"}, kinds),
    "scores": signature({"inputs": "string"}, {"scores": "float"}, lambda inputs: {"scores": first(inputs, "p")}),
    "flat": signature({"inputs": "string"}, {"scores": "float"}, lambda inputs: {"scores": first(inputs, "p")[:, 0]}),
    "reg": signature({"inputs": "string"}, {"outputs": "float"}, lambda inputs: {"outputs": 2 * first(inputs, "p")}),
    "reg2": signature({"inputs": "string"}, {"outputs": "float"}, lambda inputs: {"outputs": np.zeros((1, 2), "f")}),
    "regd": signature({"inputs": "string"}, {"outputs": "double"}, lambda inputs: {"outputs": np.zeros(len(inputs))}),
    "regn": signature({"inputs": "string"}, {"outputs": "float"}, lambda inputs: {"outputs": np.zeros(7, "f")}),
}
TYPES = {dtype: signature({"x": dtype}, {"y": dtype}, lambda x: {"y": x}) for dtype in DTYPES}


@pytest.fixture(scope="module")
def registry():
    models = {
        "m": {3: registries.NumPyModel(**SIGNATURES), 7: registries.NumPyModel(**SIGNATURES)},
        "types": {1: registries.NumPyModel(serving_default=HALF, **TYPES)},
    }
    return registries.Versions(models, {"m": {"stable": 3, "gone": 5}})


def ask(registry, target, body=b"", *, method="POST", headers=None):
    raw = body if isinstance(body, bytes) else body.encode()
    return rest.answer(messages.Request(method, target, headers or {}, raw), registry, options.Options())


def answered(registry, target, body=b"", **more):
    response = ask(registry, target, body, **more)
    assert response.headers == (("Content-Type", "application/json"),)
    parsed = json.loads(response.body, parse_constant=str)
    return response.status, parsed["error"] if set(parsed) == {"error"} else parsed


ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
SHOWN = 'JSON Value: {{\n    "{}": {}\n}} {}'
KEYS = "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: {}"
NO_NAME = "not formatted correctly. 'signature_name' key must be a string value."
NO_EXAMPLES = "When method is classify, key 'examples' is expected and was not found"
BOTH = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
PLAIN = "but expecting {} as multiple input tensors required as per tensorinfo_map"
PREDICT = [
    ('{"instances":[1.0,2.0,5.0]}', 200, {"predictions": [2.5, 3.0, 4.5]}),
    ('{"instances":[[1.0],[2.0]]}', 200, {"predictions": [[2.5], [3.0]]}),
    ('{"instances":[{"x":1.0},{"x":2}]}', 200, {"predictions": [2.5, 3.0]}),
    ('{"instances":[[],[]]}', 200, {"predictions": [[], []]}),
    ('{"inputs":1.0}', 200, {"outputs": 2.5}),
    ('{"inputs":[]}', 200, {"outputs": []}),
    ('{"inputs":{"x":[[1.0]],"zzz":[1]}}', 200, {"outputs": [[2.5]]}),
    ('{"inputs":{}}', 400, "Missing named input: x in 'inputs' object."),
    ('{"inputs":null}', 400, "JSON Value: null Type: Null is not of expected type: float"),
    (
        '{"instances":[1],"inputs":[1]}',
        400,
        f'JSON Value: {{\n    "instances": [1],\n    "inputs": [1]\n}} {BOTH}',
    ),
    ("{}", 400, "Missing 'inputs' or 'instances' key"),
    ("null", 400, "JSON Value: null Is not object"),
    ('{"instances":{}}', 400, "JSON Value: {\n    \"instances\": {}\n} Expecting 'instances' to be an list/array"),
    ('{"instances":[]}', 400, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
    ('{"instances":[1.0],"instances":[2.0]} x', 200, {"predictions": [2.5]}),
    ('{"signature_name":"","instances":[1]}', 200, {"predictions": [2.5]}),
    ('{"signature_name":"nope","instances":[1]}', 400, 'Serving signature name: "nope" not found in signature def'),
    (
        '{"signature_name":1}',
        400,
        SHOWN.format("signature_name", 1, NO_NAME),
    ),
    ('{"signature_name":"nothing","inputs":{}}', 400, "Failed to get input map for signature: nothing"),
    (
        '{"instances":[NaN,Inf,-Infinity,1e39,1e-50]}',
        200,
        {"predictions": ["NaN", "Infinity", "-Infinity", "Infinity", 2.0]},
    ),
    # Rows.
    ('{"instances":[{"y":1}]}', 400, ROW.format("0 key: y", "JSON object: does not have named input: y")),
    (
        '{"instances":[{}]}',
        400,
        KEYS.format("{}", "x"),
    ),
    ('{"instances":[1,[1]]}', 400, ROW.format(1, "Expecting shape [] but got: [1]")),
    ('{"instances":[[1],[2,3]]}', 400, ROW.format(1, "Expecting tensor size: 1 but got: 2")),
    ('{"instances":[[[1,2]],[[1],[2]]]}', 400, ROW.format(1, "Expecting shape [1,2] but got: [2,1]")),
    (
        '{"instances":[[[1],[2,3]]]}',
        400,
        ROW.format(0, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    ),
    ('{"instances":[[1,[2]]]}', 400, ROW.format(0, "Encountered list at unexpected level: 1 expected < 1")),
    (
        '{"instances":[[[1],2]]}',
        400,
        ROW.format(0, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ),
    ('{"instances":[{"x":1},2]}', 400, "Expecting object but got list at item 1 of input list"),
    ('{"instances":[2,{"x":1}]}', 400, "Expecting value/list but got object at item 1 of input list"),
    ('{"instances":[{"x":1,"x":2},{"x":3,"x":4}]}', 200, {"predictions": [2.5, 3.0]}),
    (
        '{"instances":[{"b64":"AAAA"}]}',
        400,
        ROW.format(0, 'JSON Value: {\n    "b64": "AAAA"\n} Type: Object is not of expected type: float'),
    ),
    # Columns.
    ('{"inputs":[[1],[2,3]]}', 400, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    ('{"inputs":[true]}', 400, "JSON Value: true Type: True is not of expected type: float"),
    # Several inputs and outputs.
    ('{"signature_name":"two","instances":[1]}', 400, f"instances is a plain list, {PLAIN.format('list of objects')}"),
    ('{"signature_name":"two","inputs":[1]}', 400, f"inputs is a plain value/list, {PLAIN.format('an object')}"),
    ('{"signature_name":"two","inputs":{"a":[[1,2]]}}', 400, "Missing named input: b in 'inputs' object."),
    (
        '{"signature_name":"two","instances":[{"a":[1,2],"b":1.5}]}',
        400,
        ROW.format("0 key: b", "JSON Value: 1.5 Type: Number is not of expected type: int32"),
    ),
    (
        '{"signature_name":"two","instances":[{"a":[1,2]}]}',
        400,
        KEYS.format('{\n    "a": [1, 2]\n}', "a,b"),
    ),
    (
        '{"signature_name":"two","instances":[{"b64":"AAAA"}]}',
        400,
        ROW.format(0, 'JSON Value: {\n    "b64": "AAAA"\n} Type: Object is not of expected type: float'),
    ),
    (
        '{"signature_name":"two","instances":[{"a":[1,2],"b":1},{"b":2,"a":[3,4]}]}',
        200,
        {
            "predictions": [
                {"sum": [2.0, 3.0], "n": 2, "label": "1", "label_bytes": {"b64": "MQ=="}},
                {"sum": [5.0, 6.0], "n": 4, "label": "2", "label_bytes": {"b64": "Mg=="}},
            ]
        },
    ),
    (
        '{"signature_name":"two","inputs":{"a":[[1,2]],"b":[1]}}',
        200,
        {"outputs": {"sum": [[2.0, 3.0]], "n": [2], "label": ["1"], "label_bytes": [{"b64": "MQ=="}]}},
    ),
    ('{"signature_name":"apart","inputs":{"a":[1],"b":[1,2]}}', 200, {"outputs": {"a": [1.0], "b": [1.0, 2.0]}}),
    ('{"signature_name":"total","inputs":[1,2]}', 200, {"outputs": 3.0}),
    ('{"signature_name":"total","instances":[1,2]}', 400, "Tensor name: s has no shape information "),
    ('{"signature_name":"silent","instances":[1,2]}', 400, "Cannot convert empty tensor map to JSON"),
    ('{"signature_name":"refusing","instances":[1,2]}', 503, 'full: "x"\n'),
    # Strings and base64.
    (
        '{"signature_name":"text","instances":["hi",{"b64":"aGVsbG8="}]}',
        200,
        {"predictions": [{"b64": "aGkh"}, {"b64": "aGVsbG8h"}]},
    ),
    ('{"signature_name":"text","inputs":{"b64":"aGk="}}', 200, {"outputs": {"b64": "aGkh"}}),
    (
        '{"signature_name":"text","instances":[{"b64":" aGVs\\nbG8"},{"b64":""}]}',
        200,
        {"predictions": [{"b64": "aGVsbG8h"}, {"b64": "IQ=="}]},
    ),
    ('{"signature_name":"text","inputs":[{"b64":"***"}]}', 400, "Unable to base64 decode"),
    ('{"signature_name":"text","inputs":[{"b64":"_-8="}]}', 400, "Unable to base64 decode"),
    ('{"signature_name":"text","inputs":[{"b64":"aGVsb"}]}', 400, "Unable to base64 decode"),
    ('{"signature_name":"text","inputs":[{"b64":"aGVsbG8=="}]}', 400, "Unable to base64 decode"),
    (
        '{"signature_name":"text","inputs":[{"a":"b"}]}',
        400,
        'JSON Value: {\n    "a": "b"\n} not formatted correctly for base64 data',
    ),
    (
        '{"signature_name":"text","instances":[{"b64":5}]}',
        400,
        ROW.format("0 key: b64", "JSON object: does not have named input: b64"),
    ),
    ('{"signature_name":"text","instances":["\\u00e9\\u0000"]}', 200, {"predictions": [{"b64": "w6kAIQ=="}]}),
]


@pytest.mark.parametrize(("body", "code", "answer"), PREDICT, ids=[body[:60] for body, *_ in PREDICT])
def test_predict(registry, body, code, answer):
    assert answered(registry, "/v1/models/m:predict", body) == (code, answer)


VALUES = [
    ("bool", "true", True),
    ("bool", "1", None),
    ("int8", "300", 44),
    ("int8", "128", -128),
    ("uint8", "256", 0),
    ("uint8", "-1", 255),
    ("int16", "32768", -32768),
    ("int16", "2147483648", None),
    ("int32", "2147483647", 2147483647),
    ("int32", "-2147483649", None),
    ("int32", "1.0", None),
    ("int32", "true", None),
    ("uint32", "4294967295", 4294967295),
    ("uint32", "4294967296", None),
    ("uint32", "-1", None),
    ("int64", "-9223372036854775808", -(2**63)),
    ("int64", "9223372036854775808", None),
    ("uint64", "18446744073709551615", 2**64 - 1),
    ("uint64", "-1", None),
    ("float", "16777217", 16777216.0),
    ("float", "1e-40", 0.0),
    ("float", '"1"', None),
    ("double", "0.30000000000000004", 0.30000000000000004),
    ("double", "123456789.123456789", 123456789.12345681),
    ("double", "1e-310", 0.0),
    ("double", "null", None),
    ("string", '"a"', "a"),
    ("string", "1", None),
]


@pytest.mark.parametrize(("dtype", "text", "value"), VALUES)
def test_what_fits_which_dtype(registry, dtype, text, value):
    code, answer = answered(registry, "/v1/models/types:predict", f'{{"signature_name":"{dtype}","inputs":[{text}]}}')

    if value is None:
        assert code == 400
        assert answer.startswith("JSON Value: ")
        assert answer.endswith(f"is not of expected type: {dtype}")
    else:
        assert (code, answer) == (200, {"outputs": [value]})
        assert type(answer["outputs"][0]) is type(value)


@pytest.mark.parametrize("dtype", ["half", "uint16"])
def test_a_dtype_that_json_cannot_carry_is_unimplemented_in_columns_and_invalid_in_rows(registry, dtype):
    message = f"Conversion of JSON Value: 1.5 to type: {dtype}"
    row = f"Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {message}"
    head = f'{{"signature_name":"{dtype}",'

    assert answered(registry, "/v1/models/types:predict", head + '"inputs":[1.5]}') == (501, message)
    assert answered(registry, "/v1/models/types:predict", head + '"instances":[1.5]}') == (400, row)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (
            '{"examples":[{"p":0.25},{"p":[0.5]}],"signature_name":"cls"}',
            {"results": [[["neg", 0.75], ["pos", 0.25]], [["neg", 0.5], ["pos", 0.5]]]},
        ),
        ('{"examples":[{}],"signature_name":"clsonly"}', {"results": [[["neg", 0.0], ["pos", 0.0]]]}),
        ('{"examples":[{"p":12.0}],"signature_name":"scores"}', {"results": [[["", 12.0]]]}),
        (
            '{"examples":[{"p":12.0}],"signature_name":"flat"}',
            "Expected Tensor shape: [batch_size num_classes] but got [1]",
        ),
        ('{"examples":[{"p":12.0}],"signature_name":"nope"}', "No signature was found with the name: nope"),
        ('{"examples":[{"p":12.0}],"signature_name":"two"}', "Expected one input Tensor."),
        (
            '{"signature_name":"cls"}',
            SHOWN.format("signature_name", '"cls"', NO_EXAMPLES),
        ),
    ],
)
def test_classify(registry, body, answer):
    assert answered(registry, "/v1/models/m:classify", body) == (200 if isinstance(answer, dict) else 400, answer)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('"examples":[{"p":40.0},{"p":[1.0]}]', {"results": [80.0, 2.0]}),
        ('"context":{"p":1.5},"examples":[{"q":1},{"q":2}]', {"results": [3.0, 3.0]}),
        ('"context":{"p":1.5},"examples":[{"p":2.5}]', {"results": [5.0]}),
        ('"examples":[{"p":1e39}]', {"results": ["Infinity"]}),
        (
            '"examples":[]',
            'JSON Value: {\n    "examples": [],\n    "signature_name": "reg"\n} \'examples\' value is an empty array',
        ),
        (
            '"examples":{}',
            'JSON Value: {\n    "examples": {},\n    "signature_name": "reg"\n} '
            "Expecting 'examples' value to be an list/array",
        ),
        ('"examples":[[]]', "Example must be JSON object but got JSON Array"),
        ('"context":1,"examples":[{}]', "Example must be JSON object but got JSON Number"),
        ('"examples":[{"p":[10,10.0]}]', "Unexpected element type in feature: p expecting type: int64"),
        ('"examples":[{"p":["a",true]}]', "Unexpected element type in feature: p expecting type: bytes"),
        ('"examples":[{"p":null}]', "Feature: p has element with unexpected JSON type: Null"),
        ('"examples":[{"p":[[1.0]]}]', "Feature: p has element with unexpected JSON type: Array"),
        ('"examples":[{"p":{"t":1}}]', "Feature: p has element with unexpected JSON type: Object"),
        ('"examples":[{"p":{"b64":"*"}}]', "Unable to base64 decode"),
        ('"examples":[{"p":18446744073709551603}]', "Feature: p has uint64_t element. Only int64_t is supported."),
    ],
)
def test_regress(registry, body, answer):
    asked = answered(registry, "/v1/models/m:regress", f'{{{body},"signature_name":"reg"}}')

    assert asked == (200 if isinstance(answer, dict) else 400, answer)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reg2", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,2]"),
        ("regd", "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
        ("regn", "Input batch size did not match output batch size: 1 vs. 7"),
        ("cls", "Expected one output Tensor."),
    ],
)
def test_what_is_no_regression(registry, name, message):
    body = f'{{"signature_name":"{name}","examples":[{{"p":1.0}}]}}'

    assert answered(registry, "/v1/models/m:regress", body) == (400, message)


@pytest.mark.parametrize(
    ("verb", "name", "beginning"),
    [
        ("regress", "serving_default", "No regression inputs found in SignatureDef: goo.gle/debugstr  \ninputs {\n"),
        ("regress", "scores", "No regression outputs found in SignatureDef: goo.gle/debugstr  \ninputs {\n"),
        ("classify", "serving_default", "No classification inputs found in SignatureDef: goo.gle/debugstr  \n"),
        (
            "classify",
            "reg",
            'Expected classification signature outputs to contain at least one of "classes" or "scores". ',
        ),
    ],
)
def test_a_signature_of_another_kind_is_shown(registry, verb, name, beginning):
    body = f'{{"signature_name":"{name}","examples":[{{}}]}}'
    code, message = answered(registry, f"/v1/models/m:{verb}", body)

    assert code == 400
    assert message.startswith(beginning)
    assert message.endswith('method_name: "tensorflow/serving/predict"\n')


def test_a_feature_of_every_kind_reaches_the_example(registry):
    body = '{"signature_name":"clsonly","examples":[{"i":[1,true],"f":0.1,"s":["a",{"b64":"aGk="}],"e":[]}]}'
    answered(registry, "/v1/models/m:classify", body)
    with registry.lease("m") as lease:
        (feature,) = features(lease.servable.fed["inputs"])

    assert list(feature["i"].int64_list.value) == [1, 1]
    assert list(feature["f"].float_list.value) == [np.float32(0.1)]
    assert list(feature["s"].bytes_list.value) == [b"a", b"hi"]
    assert feature["e"].WhichOneof("kind") is None


@pytest.mark.parametrize(
    ("method", "target", "body", "code", "message"),
    [
        ("POST", "/v1/models/foo:predict", "{}", 404, "Servable not found for request: Latest(foo)"),
        (
            "POST",
            "/v1/models/foo:predict",
            "{bad",
            400,
            "JSON Parse error: Missing a name for object member. at offset: 1",
        ),
        (
            "POST",
            "/v1/models/foo:regress",
            '{"examples":[]}',
            400,
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        ("POST", "/v1/models/m/versions/9:predict", "{}", 404, "Servable not found for request: Specific(m, 9)"),
        ("POST", "/v1/models/m/labels/nope:predict", "{}", 400, "Unrecognized servable version label: nope"),
        ("POST", "/v1/models/m/labels/gone:predict", "{}", 404, "Servable not found for request: Specific(m, 5)"),
        ("GET", "/v1/models", "", 400, "Missing model name in request."),
        ("GET", "/v1/models/metadata/metadata", "", 404, "Servable not found for request: Latest(metadata)"),
        ("GET", "/v1/models/m?x=1", "", 404, "Could not find any versions of model m?x=1"),
        ("GET", "/v1/models/m/labels/nope/metadata", "", 400, "Unrecognized servable version label: nope"),
        ("PUT", "/v1/models/m:predict", "{}", 400, "Malformed request: PUT /v1/models/m:predict"),
    ],
)
def test_what_is_not_there(registry, method, target, body, code, message):
    assert answered(registry, target, body, method=method) == (code, message)


@pytest.mark.parametrize(
    ("target", "version"), [("/v1/models/m", 7), ("/v1/models/m/versions/3", 3), ("/v1/models/m/labels/stable", 3)]
)
def test_the_version_that_is_asked_for_answers(registry, target, version):
    with registry.lease("m", version=version) as lease:
        lease.servable.timeout = None
    answered(registry, f"{target}:predict", '{"instances":[1]}')

    with registry.lease("m", version=version) as lease:
        assert lease.servable.timeout == 30
    if "labels" not in target:
        assert answered(registry, f"{target}/metadata", method="GET")[1]["model_spec"]["version"] == str(version)


def test_states_are_listed_whatever_the_label(registry):
    states = [
        {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in ("7", "3")
    ]

    for target in ("/v1/models/m", "/v1/models/m/labels/nope", "/v1/models/m/METADATA"):
        assert answered(registry, target, method="GET") == (200, {"model_version_status": states})
    assert answered(registry, "/v1/models/m/versions/3", method="GET")[1] == {"model_version_status": states[1:]}


def test_metadata_holds_every_signature_and_empty_fields(registry):
    code, document = answered(registry, "/v1/models/types/metadata", method="GET")
    signatures = document["metadata"]["signature_def"]["signature_def"]

    assert code == 200
    assert document["model_spec"] == {"name": "types", "version": "1", "signature_name": ""}
    assert set(signatures) == {"serving_default", *DTYPES}
    assert signatures["half"] == {
        "inputs": {"x": {"name": "x:0", "dtype": "DT_HALF"}},
        "outputs": {"y": {"name": "y:0", "dtype": "DT_HALF"}},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


BODY = b'{"instances":[1.0]}'
EMPTY = (400, "JSON Parse error: The document is empty")


@pytest.mark.parametrize(
    ("encoding", "body", "answer"),
    [
        ("gzip", gzip.compress(BODY), (200, {"predictions": [2.5]})),
        ("my_gzip", gzip.compress(BODY), (200, {"predictions": [2.5]})),
        ("gzip", BODY, EMPTY),
        ("gzip", gzip.compress(BODY)[:-9], EMPTY),
        ("gzip", b"", EMPTY),
        ("", b"", EMPTY),
        ("deflate", zlib.compress(BODY), (400, "JSON Parse error: Invalid value. at offset: 0")),
    ],
)
def test_gzip(registry, encoding, body, answer):
    assert answered(registry, "/v1/models/m:predict", body, headers={"content-encoding": encoding}) == answer


def test_gzip_ends_at_100_mebibytes():
    most = bytes(rest.MOST_INFLATED)

    assert len(rest.inflated(gzip.compress(most, 1), "gzip")) == len(most)
    assert rest.inflated(gzip.compress(most + b"\0", 1), "gzip") == b""


def test_a_refusal_without_a_word_and_an_answer_to_head_are_empty(registry):
    untold = ask(registry, "/v1/models/m/versions/18446744073709551615:predict", BODY)
    head = ask(registry, "/v1/models/m", method="HEAD")

    assert (untold.status, untold.body) == (400, b"")
    assert (head.status, head.body) == (400, b"")


@pytest.mark.parametrize("depth", [64, 65, 255, 5000, 50_000])
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_deep_nesting_is_refused_and_never_fatal(registry, depth, key):
    code, answer = answered(registry, "/v1/models/m:predict", f'{{"{key}":{"[" * depth}1{"]" * depth}}}')

    if depth == 64:
        assert code == 200
    else:
        assert (code, answer) == (400, "tensor parsing error: x")


def test_deep_nesting_beside_the_inputs_does_not_matter(registry):
    body = b'{"instances":[1],"nested":' + b"[" * 500_000 + b"]" * 500_000 + b"}"

    assert answered(registry, "/v1/models/m:predict", body) == (200, {"predictions": [2.5]})


def test_strings_go_out_byte_for_byte(registry):
    body = b'{"signature_name":"string","instances":["\xff\\u0001\xc3\xa9"]}'

    assert b'["\xff\\u0001\xc3\xa9"' in ask(registry, "/v1/models/types:predict", body).body


def test_layout_is_upstreams_where_rows_are_values(registry):
    response = ask(registry, "/v1/models/m:predict", '{"instances":[1.0,2.0,5.0]}')

    assert response.body == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'
