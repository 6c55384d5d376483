"""Strict schemas of the objects that no package has a schema of: exactly the fields that a deployment uses.

Reference: the CustomResourceDefinitions of Prometheus Operator and KServe; Kustomize's Kustomization.
"""

from __future__ import annotations

STRING, WHOLE = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}


def strict(required: dict[str, object], **optional: object) -> dict[str, object]:
    """The schema of an object that has these fields and no other."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def items(schema: object) -> dict[str, object]:
    return {"type": "array", "items": schema, "minItems": 1}


TEXTS = {"type": "object", "additionalProperties": STRING}
METADATA = strict({"name": STRING, "namespace": STRING}, labels=TEXTS, annotations=TEXTS)
RESOURCES = strict({"cpu": STRING, "memory": STRING})
# The fields that stand in the files, with the types of the projects' own definitions (CRDs).
SCHEMAS = {
    "Kustomization": strict(
        {
            "apiVersion": {"const": "kustomize.config.k8s.io/v1beta1"},
            "kind": STRING,
            "namespace": STRING,
            "resources": items(STRING),
            "images": items(strict({"name": STRING, "newName": STRING, "newTag": STRING})),
        }
    ),
    "PodMonitor": strict(
        {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": STRING,
            "metadata": METADATA,
            "spec": strict(
                {
                    "selector": strict({"matchLabels": TEXTS}),
                    "fallbackScrapeProtocol": {"enum": ["PrometheusText0.0.4"]},
                    "podMetricsEndpoints": items(
                        strict(
                            {"port": STRING, "path": STRING, "interval": {"pattern": "^[0-9]+s$"}},
                            metricRelabelings=items(
                                strict({"sourceLabels": items(STRING), "regex": STRING, "action": {"const": "keep"}})
                            ),
                        )
                    ),
                }
            ),
        }
    ),
    "InferenceService": strict(
        {
            "apiVersion": {"const": "serving.kserve.io/v1beta1"},
            "kind": STRING,
            "metadata": METADATA,
            "spec": strict(
                {
                    "predictor": strict(
                        {
                            "minReplicas": WHOLE,
                            "maxReplicas": WHOLE,
                            "model": strict(
                                {
                                    "modelFormat": strict({"name": {"const": "tensorflow"}}),
                                    "runtime": {"const": "kserve-tensorflow-serving"},
                                    "protocolVersion": {"const": "v1"},
                                    "image": STRING,
                                    "storageUri": {"type": "string", "pattern": "^pvc://[a-z0-9-]+/[A-Za-z0-9_.-]+$"},
                                    "args": items(STRING),
                                    "ports": items(
                                        strict({"name": STRING, "containerPort": WHOLE, "protocol": STRING})
                                    ),
                                    "readinessProbe": strict(
                                        {
                                            "httpGet": strict({"path": STRING, "port": {"const": 8080}}),
                                            "periodSeconds": WHOLE,
                                            "timeoutSeconds": WHOLE,
                                        }
                                    ),
                                    "resources": strict({"requests": RESOURCES, "limits": RESOURCES}),
                                    "volumeMounts": items(
                                        strict({"name": STRING, "mountPath": STRING, "readOnly": {"const": True}})
                                    ),
                                }
                            ),
                            "volumes": items(strict({"name": STRING, "configMap": strict({"name": STRING})})),
                        }
                    )
                }
            ),
        }
    ),
}
