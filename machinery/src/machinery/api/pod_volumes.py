"""Views of the volumes of pods, and of the fields of a pod that files and variables are made of; `machinery.api.core` has the rest."""

import msgspec

from machinery.meta.objectmeta import View


class ObjectFieldSelector(View):
    field_path: str
    api_version: str = "v1"


class ResourceFieldSelector(View):
    resource: str
    container_name: str = ""
    divisor: str | int = ""


class KeyToPath(View):
    key: str
    path: str
    mode: int | None = None


class ConfigMapVolumeSource(View):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class SecretVolumeSource(View):
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class EmptyDirVolumeSource(View):
    medium: str = ""
    size_limit: str | int | None = None


class HostPathVolumeSource(View):
    path: str
    type: str = ""


class DownwardAPIFile(View):
    path: str
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: int | None = None


class DownwardAPIVolumeSource(View):
    items: tuple[DownwardAPIFile, ...] = ()
    default_mode: int = 0o644


class ServiceAccountTokenProjection(View):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class SecretProjection(View):
    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class DownwardAPIProjection(View):
    items: tuple[DownwardAPIFile, ...] = ()


class VolumeProjection(View):
    config_map: SecretProjection | None = None
    secret: SecretProjection | None = None
    downward_api: DownwardAPIProjection | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: ServiceAccountTokenProjection | None = None


class ProjectedVolumeSource(View):
    sources: tuple[VolumeProjection, ...] = ()
    default_mode: int = 0o644


class PersistentVolumeClaimVolumeSource(View):
    claim_name: str
    read_only: bool = False


class Volume(View):
    name: str
    config_map: ConfigMapVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    host_path: HostPathVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = msgspec.field(name="downwardAPI", default=None)
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
