"""Training: the loop and the Protocols it needs, the DeepSpeed engine, losses, validation Dice, checkpoints.

Importing this package does not import DeepSpeed; making a :class:`DeepSpeedEngine` does.
"""

from udt_cluster.training.catalog import Checkpoint, CheckpointCatalog, CheckpointInfo
from udt_cluster.training.checkpoint import StorageCheckpoints
from udt_cluster.training.engine import DeepSpeedEngine
from udt_cluster.training.loop import FitResult, fit
from udt_cluster.training.losses import loss_function
from udt_cluster.training.protocols import (
    Beat,
    CheckpointError,
    CheckpointStore,
    Engine,
    EvalLoader,
    Interrupt,
    NonFiniteError,
    NonFiniteLossError,
    PreemptedError,
    Reporter,
    StepResult,
    SupersededError,
    TrainLoader,
)
from udt_cluster.training.recipe import BatchPlan, deepspeed_config, plan_batches
from udt_cluster.training.schedule import learning_rate
from udt_cluster.training.snapshot import seed_all
from udt_cluster.training.state import Best, EpochRecord, TrainingState

__all__ = [
    "BatchPlan",
    "Beat",
    "Best",
    "Checkpoint",
    "CheckpointCatalog",
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointStore",
    "DeepSpeedEngine",
    "Engine",
    "EpochRecord",
    "EvalLoader",
    "FitResult",
    "Interrupt",
    "NonFiniteError",
    "NonFiniteLossError",
    "PreemptedError",
    "Reporter",
    "StepResult",
    "StorageCheckpoints",
    "SupersededError",
    "TrainLoader",
    "TrainingState",
    "deepspeed_config",
    "fit",
    "learning_rate",
    "loss_function",
    "plan_batches",
    "seed_all",
]
