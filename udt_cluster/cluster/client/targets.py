"""Where jobs run: the embedded `local` target, or the addresses of a cluster kept as a profile. No Ray here."""

import os
from dataclasses import asdict, dataclass, fields, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from udt_cluster.config.home import read_state, write_state
from udt_cluster.errors import UsageError
from udt_cluster.storage import Location

_FILE = "targets.json"
LOCAL = "local"
ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Target:
    """Addresses of one cluster. All are None for `local`, whose servers are started when needed.

    Attributes:
        jobs_api: URL of Ray's dashboard and Jobs API.
        tracking: MLflow URI.
        storage: URI under which data sets, job records and checkpoints lie (`s3://bucket/prefix`).
        endpoint: S3 endpoint, when it is not Amazon's.
        region: S3 region.
        token_path: File with Ray's token; its text never leaves this machine but to the cluster itself.
        insecure: Talk to a cluster on the network although it asks for no token.
        ray_address: Of the local head, for its own processes: Ray guesses where several heads run on one machine.
    """

    name: str
    jobs_api: str | None = None
    tracking: str | None = None
    storage: str | None = None
    endpoint: str | None = None
    region: str | None = None
    token_path: str | None = None
    insecure: bool = False
    ray_address: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the servers are this machine's own, started when needed."""
        return self.name == LOCAL

    @property
    def is_loopback(self) -> bool:
        """Whether the Jobs API cannot be reached from another machine."""
        host = urlsplit(self.jobs_api or "").hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def environment(self) -> dict[str, str]:
        """What a process on the cluster must know to reach storage and tracking; no secret is in it."""
        values = {
            "MLFLOW_TRACKING_URI": self.tracking,
            "RAY_ADDRESS": self.ray_address,
            "AWS_ENDPOINT_URL_S3": self.endpoint or _first_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            "AWS_REGION": self.region or _first_set("AWS_REGION", "AWS_DEFAULT_REGION"),
        }
        return {key: value for key, value in values.items() if value}


def _first_set(*variables: str) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)


def load_targets() -> dict[str, Target]:
    """Every profile by name, `local` among them."""
    known = {field.name for field in fields(Target)}
    stored = read_state(_FILE).get("targets", {})
    targets = {name: Target(**{k: v for k, v in entry.items() if k in known}) for name, entry in stored.items()}
    return {LOCAL: Target(LOCAL), **targets}


def current_name() -> str:
    """Name of the target that a command takes when none is given."""
    if name := os.environ.get("UDT_TARGET"):
        return name
    if os.environ.get("UDT_JOBS_API"):
        return ENVIRONMENT
    return str(read_state(_FILE).get("current", LOCAL))


def current_target(name: str | None = None) -> Target:
    """The target to talk to: `name`, else `UDT_TARGET`, else `UDT_JOBS_API`, else the profile in use, else `local`.

    Raises:
        UsageError: there is no profile of that name, or it lacks an address.
    """
    chosen = name or current_name()
    if chosen == ENVIRONMENT:
        return _complete(Target(ENVIRONMENT, jobs_api=os.environ.get("UDT_JOBS_API")))
    targets = load_targets()
    if chosen not in targets:
        raise UsageError(
            f"there is no target {chosen!r}; known: {', '.join(sorted(targets))}. Add it: "
            f"udt-cluster target add {chosen} --jobs-api URL --tracking URL --storage s3://BUCKET/PREFIX"
        )
    return _complete(targets[chosen])


def _complete(target: Target) -> Target:
    """Fill from the environment what the profile leaves open; a remote target needs all three addresses."""
    target = replace(
        target,
        storage=os.environ.get("UDT_STORAGE") or target.storage,
        tracking=target.tracking or (None if target.is_local else os.environ.get("MLFLOW_TRACKING_URI")),
        jobs_api=target.jobs_api.rstrip("/") if target.jobs_api else None,
    )
    if target.is_local:
        return target
    names = {"jobs_api": "--jobs-api", "tracking": "--tracking", "storage": "--storage"}
    missing = [option for field, option in names.items() if getattr(target, field) is None]
    if missing:
        raise UsageError(
            f"target {target.name!r} has no {', '.join(missing)}; give it with udt-cluster target add {target.name}, "
            "or by UDT_JOBS_API, MLFLOW_TRACKING_URI and UDT_STORAGE"
        )
    return target


def add_target(target: Target) -> None:
    """Keep a profile, replacing one of the same name.

    Raises:
        UsageError: a URL is not one, or carries a password.
    """
    urls = {"--jobs-api": target.jobs_api, "--tracking": target.tracking, "--endpoint": target.endpoint}
    for label, url in {**urls, "--storage": target.storage}.items():
        parts = urlsplit(url or "")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise UsageError(
                f"{label} carries credentials or a query; write the bare address. Nodes find their own credentials, "
                "and Ray's token is read from the file of --token-file"
            )
        if url and label in urls and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise UsageError(f"{label} must be a URL such as http://head:8265, got {url!r}")
    if target.storage:
        Location.parse(target.storage)
    state = read_state(_FILE)
    state.setdefault("targets", {})[target.name] = asdict(target)
    write_state(_FILE, state)


def use_target(name: str) -> None:
    """Make a profile the one that commands take when none is given.

    Raises:
        UsageError: there is no profile of that name.
    """
    if name not in load_targets():
        raise UsageError(f"there is no target {name!r}; known: {', '.join(sorted(load_targets()))}")
    write_state(_FILE, {**read_state(_FILE), "current": name})
