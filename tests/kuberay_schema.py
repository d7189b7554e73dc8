"""RayCluster and RayJob of KubeRay's API group ray.io/v1 as JSON schemas.

No package brings the published ones, so these are written from KubeRay's API reference, all fields
of the parts that our manifests use and no others: an unknown field is an error. Pod templates
are left open here; tests hold them against Kubernetes' own published schema.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}
_POD_TEMPLATE: Schema = {"type": "object", "required": ["spec"]}


def _section(required: tuple[str, ...] = (), **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


_METADATA = _section(
    name=_TEXT, generateName=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS
)
_HEAD = _section(
    ("template",),
    template=_POD_TEMPLATE,
    rayStartParams=_TEXTS,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
    enableIngress=_FLAG,
)
_WORKERS = _section(
    ("groupName", "template", "maxReplicas", "minReplicas"),
    groupName=_TEXT,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    idleTimeoutSeconds=_COUNT,
    numOfHosts=_COUNT,
    rayStartParams=_TEXTS,
    template=_POD_TEMPLATE,
)
_CLUSTER_SPEC = _section(
    ("headGroupSpec",),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    suspend=_FLAG,
    managedBy=_TEXT,
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_section(
        idleTimeoutSeconds=_COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        version={"enum": ["v1", "v2"]},
        image=_TEXT,
    ),
    # Since KubeRay 1.5.1; needs rayVersion 2.52.0 or later.
    authOptions=_section(("mode",), mode={"enum": ["disabled", "token"]}),
    headServiceAnnotations=_TEXTS,
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_JOB_SPEC = _section(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=_TEXT,
    runtimeEnvYAML=_TEXT,
    jobId=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
    backoffLimit=_COUNT,
    submitterConfig=_section(backoffLimit=_COUNT),
    submitterPodTemplate=_POD_TEMPLATE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_COUNT,
    suspend=_FLAG,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=_TEXT,
    metadata=_TEXTS,
    rayClusterSpec=_CLUSTER_SPEC,
)

SCHEMAS: dict[str, Schema] = {
    kind: _section(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )
    for kind, spec in (("RayCluster", _CLUSTER_SPEC), ("RayJob", _JOB_SPEC))
}
"""The schemas by kind."""
