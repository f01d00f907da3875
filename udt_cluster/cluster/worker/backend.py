"""Ray Train's process group, made with what our workers need besides. It imports Ray: import it late."""

from dataclasses import dataclass

from ray.train._internal.base_worker_group import BaseWorkerGroup
from ray.train.torch.config import TorchConfig, _TorchBackend

from udt_cluster.cluster.worker.interface import use_interface_of_node
from udt_cluster.cluster.worker.signals import install_sigterm_handler


class WorkerBackend(_TorchBackend):  # type: ignore[misc]
    """What runs on the workers' main threads, where alone a signal handler can be installed."""

    def on_start(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        """Choose the network card, make the process group, and take SIGTERM as the wish to save and end."""
        worker_group.execute(use_interface_of_node)
        super().on_start(worker_group, backend_config)
        worker_group.execute(install_sigterm_handler)

    def on_shutdown(self, worker_group: BaseWorkerGroup, backend_config: TorchConfig) -> None:
        """Nothing: the workers end with their process groups. To leave one in order takes 30 s where a rank is dead."""


@dataclass
class WorkerTorchConfig(TorchConfig):  # type: ignore[misc]
    """Ray's, with our backend."""

    @property
    def backend_cls(self) -> type[WorkerBackend]:
        """What Ray Train makes of it."""
        return WorkerBackend
