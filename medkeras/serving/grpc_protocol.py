"""TensorFlow Serving's gRPC calls, from a message to its answer: no socket, no thread, no state.

Reference: TensorFlow Serving's `servables/tensorflow/{predict_util,get_model_metadata_impl,multi_inference}.cc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from medkeras.serving import inference, servable, status, tensors

METADATA = "signature_def"
_CLASSIFY, _REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def predict(
    request: predict_pb2.PredictRequest,
    registry: servable.Registry,
    *,
    timeout: float | None = None,
    content: bool = False,
) -> predict_pb2.PredictResponse:
    """Runs a signature on tensors.

    Args:
        request: The request.
        registry: Where models are found.
        timeout: Seconds that the client waits.
        content: Whether numbers are answered as `tensor_content`.

    Raises:
        StatusError: Why there is no answer.
    """
    with _lease(request, registry) as lease:
        name = _signature_name(request.model_spec)
        signatures = lease.servable.signatures
        if name not in signatures:
            raise status.StatusError(status.Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        _check_inputs(request, signatures[name])
        outputs = _outputs(request.output_filter, signatures[name])
        feeds = {alias: tensors.parse(request.inputs[alias], alias) for alias in signatures[name].inputs}
        found = lease.servable.run(name, feeds, outputs, timeout=timeout)
        response = predict_pb2.PredictResponse(model_spec=_answered(lease, name))
        for alias, value in found.items():
            response.outputs[alias].CopyFrom(tensors.proto(value, content=content))
        return response


def classify(
    request: classification_pb2.ClassificationRequest, registry: servable.Registry, *, timeout: float | None = None
) -> classification_pb2.ClassificationResponse:
    """Classifies examples; raises `StatusError`."""
    with _lease(request, registry) as lease:
        name = _signature_name(request.model_spec)
        found = inference.classify(lease.servable, name, _examples(request.input), timeout=timeout)
        return classification_pb2.ClassificationResponse(
            result=_classifications(found), model_spec=_answered(lease, name)
        )


def regress(
    request: regression_pb2.RegressionRequest, registry: servable.Registry, *, timeout: float | None = None
) -> regression_pb2.RegressionResponse:
    """Gives examples their values; raises `StatusError`."""
    with _lease(request, registry) as lease:
        name = _signature_name(request.model_spec)
        found = inference.regress(lease.servable, name, _examples(request.input), timeout=timeout)
        return regression_pb2.RegressionResponse(result=_regressions(found), model_spec=_answered(lease, name))


def multi_inference(
    request: inference_pb2.MultiInferenceRequest, registry: servable.Registry, *, timeout: float | None = None
) -> inference_pb2.MultiInferenceResponse:
    """Classifies and regresses the same examples by several signatures of one model; raises `StatusError`."""
    tasks = request.tasks
    if not tasks or not tasks[0].model_spec.name:
        raise _nameless()
    names = [_signature_name(task.model_spec) for task in tasks]
    if any(task.model_spec.name != tasks[0].model_spec.name for task in tasks):
        raise status.invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise status.invalid(f"Duplicate evaluation of signature: {twice}")
    with _leased(tasks[0].model_spec, registry) as lease:
        for task, name in zip(tasks, names, strict=True):
            _check_task(task, name, lease.servable)
        examples = _examples(request.input)
        response = inference_pb2.MultiInferenceResponse()
        for task, name in zip(tasks, names, strict=True):
            result = response.results.add(model_spec=_answered(lease, name))
            if task.method_name == _CLASSIFY:
                found = inference.classify(lease.servable, name, examples, timeout=timeout)
                result.classification_result.CopyFrom(_classifications(found))
            else:
                values = inference.regress(lease.servable, name, examples, timeout=timeout)
                result.regression_result.CopyFrom(_regressions(values))
        return response


def metadata(
    request: get_model_metadata_pb2.GetModelMetadataRequest, registry: servable.Registry
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers what the signatures of a version are; raises `StatusError`."""
    _check_spec(request)
    if not request.metadata_field:
        raise status.invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != METADATA:
            raise status.invalid(f"Metadata field {field} is not supported")
    with _lease(request, registry) as lease:
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in lease.servable.signatures.items():
            found.signature_def[name].CopyFrom(signature)
        spec = _answered(lease, "")
        response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
        response.metadata[METADATA].Pack(found)
        return response


def states(
    request: get_model_status_pb2.GetModelStatusRequest, registry: servable.Registry
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers what the states of a model's versions are, whatever label is asked for; raises `StatusError`."""
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    spec = request.model_spec
    response = get_model_status_pb2.GetModelStatusResponse()
    for found in registry.states(spec.name, spec.version.value if spec.HasField("version") else None):
        listed = response.model_version_status.add(version=found.version, state=found.state)
        listed.status.error_code = status.Code[found.code]
        listed.status.error_message = found.message
    return response


def _lease(request: Any, registry: servable.Registry) -> Any:
    _check_spec(request)
    return _leased(request.model_spec, registry)


def _leased(spec: model_pb2.ModelSpec, registry: servable.Registry) -> Any:
    if spec.version_label:
        return registry.lease(spec.name, label=spec.version_label)
    return registry.lease(spec.name, version=spec.version.value if spec.HasField("version") else None)


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise status.invalid("Missing ModelSpec")
    if not request.model_spec.name:
        raise _nameless()


def _nameless() -> status.StatusError:
    return status.invalid("ModelSpec has no name specified.")


def _signature_name(spec: model_pb2.ModelSpec) -> str:
    return spec.signature_name or servable.DEFAULT_SIGNATURE


def _answered(lease: servable.Lease, signature: str) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=lease.name, signature_name=signature)
    spec.version.value = lease.version
    return spec


def _check_inputs(request: predict_pb2.PredictRequest, signature: meta_graph_pb2.SignatureDef) -> None:
    sent, needed = set(request.inputs), set(signature.inputs)
    if len(sent) != len(needed):
        raise status.invalid(
            f"input size does not match signature: {len(sent)}!={len(needed)} len({_set(sent)}) != "
            f"len({_set(needed)}). Sent extra: {_set(sent - needed)}. Missing but required: {_set(needed - sent)}."
        )
    for alias in sorted(needed - sent):
        raise status.invalid(
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no "
            f"default value provided. Inputs expected to be in the request {_set(sent)}"
        )


def _outputs(asked: Sequence[str], signature: meta_graph_pb2.SignatureDef) -> list[str]:
    for number, alias in enumerate(asked):
        if alias not in signature.outputs:
            raise status.invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in asked[:number]:
            raise status.invalid(f"duplicate output tensor alias: {alias}")
    return list(asked) or list(signature.outputs)


def _set(names: Any) -> str:
    return f"{{{','.join(sorted(names))}}}"


def _examples(given: input_pb2.Input) -> list[bytes]:
    """Returns serialised examples; each begins with the context, so that its own features win."""
    context = b""
    examples = given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    if not examples:
        raise status.invalid("Input is empty.")
    return [context + example.SerializeToString() for example in examples]


def _classifications(found: inference.Classified) -> classification_pb2.ClassificationResult:
    result = classification_pb2.ClassificationResult()
    rows = found.scores if found.classes is None else found.classes
    for row in range(0 if rows is None else len(rows)):
        listed = result.classifications.add()
        for column in range(0 if rows is None else rows.shape[1]):
            one = listed.classes.add()
            if found.classes is not None:
                one.label = found.classes[row, column].decode("utf-8", "replace")
            if found.scores is not None:
                one.score = found.scores[row, column]
    return result


def _regressions(values: np.ndarray) -> regression_pb2.RegressionResult:
    return regression_pb2.RegressionResult(
        regressions=[regression_pb2.Regression(value=value) for value in values.tolist()]
    )


def _check_task(task: inference_pb2.InferenceTask, name: str, model: servable.Servable) -> None:
    if name not in model.signatures:
        raise status.invalid(f"Requested signature not found in model graph: {name}")
    if task.method_name not in (_CLASSIFY, _REGRESS):
        raise status.StatusError(status.Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
