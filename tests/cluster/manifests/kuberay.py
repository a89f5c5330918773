"""What we use of KubeRay's RayService and of the pods in it, as strict types: an unknown key is an error.

Names and types are those of KubeRay 1.7's published schema for `ray.io/v1`.
"""

# ruff: noqa: N815 (the names are not ours)

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Quantity = Annotated[str, Field(pattern=r"^\d+(m|Mi|Gi|Ti)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$")]
Labels = dict[LabelKey, LabelValue]
Port = Annotated[int, Field(ge=1, le=65535)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=47)]
    labels: Labels


class SecretKeyRef(Strict):
    name: Name
    key: str
    optional: bool = False


class ValueFrom(Strict):
    secretKeyRef: SecretKeyRef


class Variable(Strict):
    name: str
    value: str | None = None
    valueFrom: ValueFrom | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Variable":
        assert (self.value is None) != (self.valueFrom is None)
        return self


class SecretValue(Strict):
    valueFrom: ValueFrom


class Resources(Strict):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class HttpGet(Strict):
    path: str
    port: Port


class Exec(Strict):
    command: list[str]


class Probe(Strict):
    httpGet: HttpGet | None = None
    exec: Exec | None = None
    initialDelaySeconds: int
    periodSeconds: int
    timeoutSeconds: int
    failureThreshold: int

    @model_validator(mode="after")
    def _one_way(self) -> "Probe":
        assert (self.httpGet is None) != (self.exec is None)
        return self


class ContainerPort(Strict):
    name: Annotated[str, Field(max_length=15)]
    containerPort: Port


class Mount(Strict):
    name: Name
    mountPath: str


class Capabilities(Strict):
    drop: list[str]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    readOnlyRootFilesystem: Literal[True]
    capabilities: Capabilities


class Container(Strict):
    name: Name
    image: str
    imagePullPolicy: Literal["IfNotPresent", "Always", "Never"]
    securityContext: ContainerSecurity
    env: list[Variable]
    ports: list[ContainerPort]
    resources: Resources
    livenessProbe: Probe
    readinessProbe: Probe
    volumeMounts: list[Mount]


class Claim(Strict):
    claimName: Name


class Volume(Strict):
    name: Name
    emptyDir: dict[str, str] | None = None
    persistentVolumeClaim: Claim | None = None


class Seccomp(Strict):
    type: Literal["RuntimeDefault"]


class PodSecurity(Strict):
    seccompProfile: Seccomp
    runAsNonRoot: Literal[True]
    runAsUser: int
    runAsGroup: int
    fsGroup: int


class Toleration(Strict):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"]


class PodSpec(Strict):
    serviceAccountName: Name | None = None
    automountServiceAccountToken: bool = True
    terminationGracePeriodSeconds: int
    securityContext: PodSecurity
    containers: Annotated[list[Container], Field(min_length=1, max_length=1)]
    volumes: list[Volume]
    nodeSelector: Labels = {}
    tolerations: list[Toleration] = []

    @model_validator(mode="after")
    def _mounts_have_volumes(self) -> "PodSpec":
        names = {volume.name for volume in self.volumes}
        assert {mount.name for mount in self.containers[0].volumeMounts} == names
        return self


class PodMetadata(Strict):
    labels: Labels


class Template(Strict):
    metadata: PodMetadata
    spec: PodSpec


StartParams = dict[Literal["num-cpus", "num-gpus"], str]  # `labels` here is refused by KubeRay


class HeadGroup(Strict):
    rayStartParams: StartParams
    template: Template


class WorkerGroup(Strict):
    groupName: Name
    replicas: int
    minReplicas: Annotated[int, Field(ge=0)]
    maxReplicas: Annotated[int, Field(ge=1)]
    labels: Labels = {}
    rayStartParams: StartParams
    template: Template

    @model_validator(mode="after")
    def _ordered(self) -> "WorkerGroup":
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        return self


class AutoscalerOptions(Strict):
    version: Literal["v2"]  # the only one that knows labels
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: int
    resources: Resources
    securityContext: ContainerSecurity
    volumeMounts: list[Mount]


class Authentication(Strict):
    mode: Literal["token"]
    secretName: Name


class FaultTolerance(Strict):
    redisAddress: str
    redisPassword: SecretValue


class RayCluster(Strict):
    rayVersion: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    enableInTreeAutoscaling: Literal[True]
    authOptions: Authentication
    autoscalerOptions: AutoscalerOptions
    gcsFaultToleranceOptions: FaultTolerance
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class ServiceSpec(Strict):
    serveConfigV2: str
    rayClusterDeletionDelaySeconds: Annotated[int, Field(ge=0)]
    rayClusterConfig: RayCluster


class RayService(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: Metadata
    spec: ServiceSpec
