"""A client of TensorFlow Serving, or of ours: arrays and encoded images in, arrays out, over REST or gRPC."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import grpc
import numpy as np
import tensorflow as tf
import urllib3
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from medkeras import errors
from medkeras.data import cases, files
from medkeras.serving import servable, status

BYTES, EXPLAIN = "serve_bytes", "explain"
_AGAIN = (429, 503)
_GRPC_AGAIN = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_MOST_TRIES = 5
_FIRST_PAUSE = 0.1
_METADATA = "signature_def"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or an output of a signature.

    Attributes:
        dtype: Its NumPy dtype; strings are objects.
        shape: Its shape, None where any size goes; None: of any rank.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a signature takes and gives, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


class Client:
    """Asks one model of a server.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT` for REST, `grpc://HOST:PORT` or `grpcs://HOST:PORT` for gRPC.
        model: Name of the model.
        version: A version of it; None: the one that the server answers with.
        label: A label of a version instead.
        token: A bearer token, where the server asks for one; it is sent over `https` and `grpcs`, and to this machine.
        timeout: Seconds for each try.
        retries: Tries after the first, when the server cannot be reached or is too busy; at most 4.
        certificates: PEM file of the authorities to trust, instead of the system's.

    Raises:
        ConfigError: The URL is not of these, or the token would go over the network in clear text.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: int | None = None,
        label: str = "",
        token: str = "",
        timeout: float = 30.0,
        retries: int = 3,
        certificates: str = "",
    ) -> None:
        place = urllib.parse.urlsplit(url)
        if place.scheme not in _TRANSPORTS or not place.hostname or place.path.strip("/"):
            raise errors.ConfigError(
                f"A server is SCHEME://HOST:PORT, the scheme http, https, grpc or grpcs. Received: {url!r}"
            )
        if version is not None and label:
            raise errors.ConfigError("A version is asked for by number or by label. Received: both")
        if token and place.scheme in ("http", "grpc") and place.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise errors.ConfigError(f"A token is sent over https or grpcs. Received: {place.scheme}")
        if certificates and not os.path.isfile(certificates):
            raise errors.ConfigError(f"certificates is a PEM file. Received: {errors.printable(certificates)}")
        if not 0 <= retries < _MOST_TRIES:
            raise errors.ConfigError(f"retries lies between 0 and {_MOST_TRIES - 1}. Received: {retries}")
        asked = _Asked(model, version, label)
        self._transport = _TRANSPORTS[place.scheme](place, asked, _Manners(token, timeout, retries, certificates))
        self._signatures: Mapping[str, Signature] = {}

    def signatures(self) -> Mapping[str, Signature]:
        """Returns what each signature takes and gives; asked for once.

        Raises:
            StatusError: The server refuses, or cannot be reached.
        """
        if not self._signatures:
            self._signatures = self._transport.signatures()
        return self._signatures

    def predict(self, images: np.ndarray, *, signature: str = servable.DEFAULT_SIGNATURE) -> dict[str, np.ndarray]:
        """Answers for images.

        Args:
            images: Stored values `[B, H, W, C]`, as they stand in the files.
            signature: The signature to ask, of one input.

        Returns:
            Output name to array, `[B, ...]`.

        Raises:
            StatusError: The server refuses, or cannot be reached; `code` and `message` say why.
        """
        return self.run(signature, {self._input(signature): images})

    def explain(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Answers for images `[B, H, W, C]` with a `heatmap` `[B, H, W, 1]` beside the other outputs."""
        return self.predict(images, signature=EXPLAIN)

    def predict_bytes(self, contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Answers for encoded images: the bytes of PNG, JPEG or BMP files."""
        return self.predict(np.array([*contents, b""], object)[:-1], signature=BYTES)

    def predict_file(
        self, path: str | os.PathLike[str], *, frame: int | None = None, signature: str = servable.DEFAULT_SIGNATURE
    ) -> dict[str, np.ndarray]:
        """Answers for an image file, whose stored values are read on this machine.

        Args:
            path: A DICOM, NIfTI, PNG, JPEG, BMP, TIFF, GIF, WebP, PGM or PPM file.
            frame: Which frame or slice, from 0; None: all, a row of the answer each.
            signature: The signature to ask: `serving_default` or `explain`.

        Raises:
            BadInputError: The file cannot be read.
            StatusError: The server refuses, or cannot be reached.
        """
        shape = self._described(signature).inputs[self._input(signature)].shape or (None,)
        case = cases.Case(case_id=os.fspath(path), path=os.fspath(path), patient_id="", frame=frame)
        pixels = files.FileImages().read(case, shape[-1] or 1)
        return self.predict(pixels.reshape(-1, *pixels.shape[-3:]), signature=signature)

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature with arrays by name; each is brought to the dtype that the signature declares."""
        described = self._described(signature)
        unknown = sorted(set(inputs) - set(described.inputs))
        if unknown:
            raise errors.ConfigError(errors.unknown(f"input of {signature}", unknown[0], described.inputs))
        feeds = {name: np.asarray(value, described.inputs[name].dtype) for name, value in inputs.items()}
        return self._transport.run(signature, feeds, described)

    def ready(self) -> bool:
        """Returns whether the model answers now; one try, without an error."""
        with contextlib.suppress(status.StatusError):
            return bool(self._transport.signatures(tries=1))
        return False

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _input(self, signature: str) -> str:
        names = tuple(self._described(signature).inputs)
        if len(names) != 1:
            raise errors.ConfigError(f"Images go to a signature of one input. Received: {signature} with {len(names)}")
        return names[0]

    def _described(self, signature: str) -> Signature:
        known = self.signatures()
        if signature not in known:
            raise errors.ConfigError(errors.unknown("signature", signature, known))
        return known[signature]


@dataclasses.dataclass(frozen=True)
class _Asked:
    model: str
    version: int | None
    label: str

    def path(self) -> str:
        base = f"/v1/models/{_quoted(self.model)}"
        if self.label:
            return f"{base}/labels/{_quoted(self.label)}"
        return base if self.version is None else f"{base}/versions/{self.version}"

    def spec(self, signature: str = "") -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self.model, signature_name=signature)
        if self.label:
            spec.version_label = self.label
        elif self.version is not None:
            spec.version.value = self.version
        return spec


@dataclasses.dataclass(frozen=True)
class _Manners:
    token: str
    timeout: float
    retries: int
    certificates: str


class _Transport(Protocol):
    def signatures(self, *, tries: int = 0) -> Mapping[str, Signature]: ...

    def run(self, signature: str, feeds: Mapping[str, np.ndarray], described: Signature) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


class _Rest:
    def __init__(self, place: urllib.parse.SplitResult, asked: _Asked, manners: _Manners) -> None:
        self._base = f"{place.scheme}://{place.netloc}{asked.path()}"
        self._headers = {"Authorization": f"Bearer {manners.token}"} if manners.token else {}
        self._retries = manners.retries
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(manners.timeout), ca_certs=manners.certificates or None
        )

    def signatures(self, *, tries: int = 0) -> Mapping[str, Signature]:
        found = self._ask("GET", "/metadata", tries=tries)
        definitions = found["metadata"]["signature_def"]["signature_def"]
        return {
            name: Signature(_tensors(each.get("inputs", {})), _tensors(each.get("outputs", {})))
            for name, each in definitions.items()
        }

    def run(self, signature: str, feeds: Mapping[str, np.ndarray], described: Signature) -> dict[str, np.ndarray]:
        body = {"signature_name": signature, "inputs": {name: _jsonable(value) for name, value in feeds.items()}}
        outputs = self._ask("POST", ":predict", json.dumps(body).encode())["outputs"]
        if len(described.outputs) == 1:
            outputs = {next(iter(described.outputs)): outputs}
        return {name: _array(value, described.outputs[name].dtype) for name, value in outputs.items()}

    def close(self) -> None:
        self._pool.clear()

    def _ask(self, method: str, end: str, body: bytes | None = None, *, tries: int = 0) -> Any:
        again = urllib3.Retry(
            total=tries - 1 if tries else self._retries,
            status_forcelist=_AGAIN,
            allowed_methods=None,
            backoff_factor=_FIRST_PAUSE,
            redirect=False,
            raise_on_status=False,
        )
        try:
            reply = self._pool.request(method, self._base + end, body=body, headers=self._headers, retries=again)
        except urllib3.exceptions.HTTPError as error:
            raise status.StatusError(status.Code.UNAVAILABLE, f"no answer ({type(error).__name__})") from None
        try:
            answer = json.loads(reply.data)
        except ValueError:
            answer = {"error": f"no JSON, but {reply.headers.get('Content-Type', 'nothing')}"}
        if reply.status != 200:
            raise status.StatusError(_CODES.get(reply.status, status.Code.UNKNOWN), str(answer.get("error", "")))
        return answer


class _Grpc:
    def __init__(self, place: urllib.parse.SplitResult, asked: _Asked, manners: _Manners) -> None:
        self._asked = asked
        self._metadata = (("authorization", f"Bearer {manners.token}"),) if manners.token else ()
        self._timeout = manners.timeout
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *_retrying(manners))
        if place.scheme == "grpcs":
            trusted = None
            if manners.certificates:
                with open(manners.certificates, "rb") as file:
                    trusted = file.read()
            credentials = grpc.ssl_channel_credentials(trusted)
            self._channel = grpc.secure_channel(place.netloc, credentials, options=options)
        else:
            self._channel = grpc.insecure_channel(place.netloc, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def signatures(self, *, tries: int = 0) -> Mapping[str, Signature]:
        del tries  # The channel has its own.
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._asked.spec(), metadata_field=[_METADATA]
        )
        with _refusals():
            reply = self._stub.GetModelMetadata(request, timeout=self._timeout, metadata=self._metadata)
        found = get_model_metadata_pb2.SignatureDefMap()
        reply.metadata[_METADATA].Unpack(found)
        listed = json_format.MessageToDict(found, preserving_proto_field_name=True).get("signature_def", {})
        return {
            name: Signature(_tensors(each.get("inputs", {})), _tensors(each.get("outputs", {})))
            for name, each in listed.items()
        }

    def run(self, signature: str, feeds: Mapping[str, np.ndarray], described: Signature) -> dict[str, np.ndarray]:
        del described  # A tensor says itself what it is.
        request = predict_pb2.PredictRequest(model_spec=self._asked.spec(signature))
        for name, value in feeds.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        with _refusals():
            reply = self._stub.Predict(request, timeout=self._timeout, metadata=self._metadata)
        return {name: tf.make_ndarray(value) for name, value in reply.outputs.items()}

    def close(self) -> None:
        self._channel.close()


_TRANSPORTS: Mapping[str, Callable[[urllib.parse.SplitResult, _Asked, _Manners], _Transport]] = {
    "http": _Rest,
    "https": _Rest,
    "grpc": _Grpc,
    "grpcs": _Grpc,
}
_CODES = {code.http: code for code in reversed(status.Code)} | {413: status.Code.RESOURCE_EXHAUSTED}


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _retrying(manners: _Manners) -> tuple[tuple[str, str | int], ...]:
    if not manners.retries:
        return (("grpc.enable_retries", 0),)
    policy = {
        "maxAttempts": manners.retries + 1,
        "initialBackoff": f"{_FIRST_PAUSE}s",
        "maxBackoff": "5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": list(_GRPC_AGAIN),
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}
    return (("grpc.service_config", json.dumps(config)),)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise status.StatusError(status.Code[error.code().name], error.details() or "") from None


def _tensors(described: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: Tensor(_dtype(each.get("dtype", "DT_INVALID")), _shape(each)) for name, each in described.items()}


def _dtype(name: str) -> np.dtype:
    number = types_pb2.DataType.Value(name)
    if number in (types_pb2.DT_INVALID, types_pb2.DT_STRING):
        return np.dtype(object)
    return np.dtype(tf.as_dtype(number).as_numpy_dtype)


def _shape(described: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    shape = described.get("tensor_shape", {})
    if shape.get("unknown_rank"):
        return None
    sizes = (int(each.get("size", 0)) for each in shape.get("dim", ()))
    return tuple(None if size < 0 else size for size in sizes)


def _jsonable(value: np.ndarray) -> Any:
    if value.dtype.kind != "O":
        return value.tolist()
    if not value.ndim:
        return {"b64": base64.b64encode(value.item()).decode()}
    return [_jsonable(np.asarray(each, object)) for each in value]


def _array(value: Any, dtype: np.dtype) -> np.ndarray:
    if dtype.kind != "O":
        return np.asarray(value, dtype)
    return np.array(_decoded(value), object)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value).encode()
