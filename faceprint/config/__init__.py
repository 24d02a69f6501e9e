"""The configuration of a run: typed, frozen, every key read, an unknown key an error.

`faceprint.recipe` reads it from recipes and `key=value` arguments. Numbers derived from these keys (steps per epoch,
scaled learning rate) live in `faceprint.training.plan`, not here.
"""

from faceprint.config.batches import AUGMENT_PRESETS, Augment, Loader, Sampler
from faceprint.config.data import (
    SOURCES,
    Data,
    Exclude,
    FolderData,
    ListData,
    MixedData,
    ParquetData,
    Part,
    PartData,
    RecordData,
    ShardsData,
    SyntheticData,
)
from faceprint.config.network import Classifier, Distillation, Input, MarginConfig, Network
from faceprint.config.published import Published, Score
from faceprint.config.run import Config
from faceprint.config.section import Section
from faceprint.config.training import Checkpoint, Distributed, Evaluation, Log, Optimizer, Schedule

__all__ = [
    "AUGMENT_PRESETS",
    "SOURCES",
    "Augment",
    "Checkpoint",
    "Classifier",
    "Config",
    "Data",
    "Distillation",
    "Distributed",
    "Evaluation",
    "Exclude",
    "FolderData",
    "Input",
    "ListData",
    "Loader",
    "Log",
    "MarginConfig",
    "MixedData",
    "Network",
    "Optimizer",
    "ParquetData",
    "Part",
    "PartData",
    "Published",
    "RecordData",
    "Sampler",
    "Schedule",
    "Score",
    "Section",
    "ShardsData",
    "SyntheticData",
]
