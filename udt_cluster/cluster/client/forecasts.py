"""What a job would take, from what earlier jobs of this target have taken."""

from dataclasses import dataclass

from udt_cluster.cluster.client import local
from udt_cluster.cluster.client.targets import Target
from udt_cluster.cluster.record import JobRecord, list_records
from udt_cluster.config.job import Job
from udt_cluster.errors import UdtError
from udt_cluster.search.forecast import Forecast, forecast
from udt_cluster.storage import Location

_LOOKED_AT = 60


@dataclass(frozen=True)
class Pace:
    """How fast a worker was.

    Attributes:
        seconds: Of one epoch, for each 1e9 multiply-adds of an image.
        job: Measured by which job.
    """

    seconds: float
    job: str


def forecast_of(job: Job) -> Forecast:
    """What a job would train; channels and classes are taken for granted where only the data can tell them."""
    return forecast(job, _cost)


def _cost(job: Job) -> tuple[int, float]:
    from udt_cluster.models import cost, output_channels

    classes = output_channels(1 + (job.data.foreground_count or 1))
    found = cost(job.model, in_channels=3 * job.data.channels_per_image, num_classes=classes, size=job.data.size)
    return found.parameters, found.macs / 1e9


def pace_of(job: Job, target: Target) -> Pace | None:
    """The pace of the newest job on the same data, of the same size, in the target's storage; None without one."""
    storage = local.known(target).storage if target.is_local else target.storage
    if storage is None:
        return None
    for record in list_records(Location.parse(storage), _LOOKED_AT):
        try:
            if (seconds := _measured(record, job)) is not None:
                return Pace(seconds, record.id)
        except (UdtError, FileNotFoundError):
            continue
    return None


def _measured(record: JobRecord, job: Job) -> float | None:
    """Seconds of an epoch for each 1e9 multiply-adds of an image, by one worker; None where the job says nothing."""
    earlier = record.job()
    if (earlier.data.source, earlier.data.size) != (job.data.source, job.data.size):
        return None
    trials = [trial for trial in record.trials() if trial.has_ended and trial.gmac and trial.epochs]
    if trials:
        return sum(trial.seconds for trial in trials) / sum(trial.epochs * trial.gmac for trial in trials)
    seconds = record.progress().get("epoch_seconds")
    _, gmac = _cost(earlier)
    return float(seconds) * earlier.resources.workers.max / gmac if seconds and gmac else None
