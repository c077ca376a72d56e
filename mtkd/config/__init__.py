"""The schema of a study file.

A study is one YAML file. Every stage reads its section of it; unknown keys and wrong types are refused by name.
"""

from mtkd.config.data import Bids, Column, Columns, Condition, Data, Deap, Edf, Mahnob, Simulation, Source, Table
from mtkd.config.models import ONE_LAYER, Cache, Distill, Lora, LossName, Optim, Spatial, TeacherName, Temporal
from mtkd.config.section import Band, Kind, Modality, OpenBand, Section
from mtkd.config.signals import Entropy, Signals, Splits, Windows
from mtkd.config.steps import ModalitySignals, Step
from mtkd.config.study import Evaluate, Predict, Shards, Study, Sweep, Units

__all__ = [
    "ONE_LAYER",
    "Band",
    "Bids",
    "Cache",
    "Column",
    "Columns",
    "Condition",
    "Data",
    "Deap",
    "Distill",
    "Edf",
    "Entropy",
    "Evaluate",
    "Kind",
    "Lora",
    "LossName",
    "Mahnob",
    "Modality",
    "ModalitySignals",
    "OpenBand",
    "Optim",
    "Predict",
    "Section",
    "Shards",
    "Signals",
    "Simulation",
    "Source",
    "Spatial",
    "Splits",
    "Step",
    "Study",
    "Sweep",
    "Table",
    "TeacherName",
    "Temporal",
    "Units",
    "Windows",
]
