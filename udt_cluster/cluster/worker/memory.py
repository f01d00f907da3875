"""What training takes of a GPU's memory, found by doing two steps of it."""

from dataclasses import dataclass
from types import SimpleNamespace

from udt_cluster.config.job import Job

_STEPS = 2  # the optimizer's state comes with the first


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of one GPU.

    Attributes:
        peak: That torch has reserved at most.
        total: That it has.
    """

    peak: int
    total: int


def training_memory(job_json: str, *, in_channels: int, num_classes: int) -> GpuMemory:
    """Train on noise, on the first GPU that this process sees, by the very engine that trials use.

    Args:
        job_json: The job.
        in_channels: Channels of the network's input.
        num_classes: Classes with the background.
    """
    import torch

    from udt_cluster.models import build_model, output_channels
    from udt_cluster.training import DeepSpeedEngine
    from udt_cluster.training.losses import loss_function

    job, device = Job.from_json(job_json), torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    untrained = job.model.model_copy(update={"pretrained": "none"})
    model = build_model(untrained, in_channels=in_channels, num_classes=output_channels(num_classes))
    engine = DeepSpeedEngine(model, job.train, device=device, seed=0)
    size = (engine.plan.micro_size, in_channels, *job.data.size)
    labels = torch.randint(num_classes, (size[0], *job.data.size), device=device)
    batch = SimpleNamespace(images=torch.rand(size, device=device), labels=labels, samples=list(range(size[0])))
    loss = loss_function(job.train.loss, num_classes=num_classes)
    for _ in range(_STEPS):
        engine.step([batch] * engine.plan.accumulation, loss)
    return GpuMemory(torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory)
