"""How many trials share a GPU: as many as fit by the memory that the largest of their networks has taken."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from udt_cluster.cluster.worker.memory import GpuMemory, training_memory
from udt_cluster.config.job import Job

if TYPE_CHECKING:
    from udt_cluster.search.proposals import Proposal

MOST = 8
"""More trials on one GPU wait for one another more than they gain."""
_USABLE = 0.9
_CONTEXT_BYTES = 700 << 20
"""What CUDA and its libraries hold in each process beside torch's own memory."""


def trials_per_gpu(memory: GpuMemory, *, cores_per_gpu: float, cores_per_trial: int) -> int:
    """Trials that one GPU takes, at least one.

    Args:
        memory: What the largest of them has taken, of how much.
        cores_per_gpu: CPU cores of the cluster for each GPU.
        cores_per_trial: That a trial takes.
    """
    by_memory = int(_USABLE * memory.total // (memory.peak + _CONTEXT_BYTES))
    by_cores = int(cores_per_gpu // cores_per_trial)
    return max(1, min(by_memory, by_cores, MOST))


def largest(proposals: Iterable["Proposal"]) -> "Proposal":
    """The one whose network does most for an image, and so keeps most for the way back."""
    return max(proposals, key=lambda proposal: (proposal.gmac, proposal.parameters))


def measure(job: Job, *, in_channels: int, num_classes: int) -> GpuMemory:
    """Train two steps of a job's network on one GPU of the cluster and see what they take."""
    import ray

    task: Any = ray.remote(num_cpus=1, num_gpus=1, max_retries=1)(training_memory)
    found: GpuMemory = ray.get(task.remote(job.to_json(), in_channels=in_channels, num_classes=num_classes))
    return found
