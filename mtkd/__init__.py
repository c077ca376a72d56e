"""Multi-teacher knowledge distillation from EEG to a student that needs none."""

__version__ = "0.1.0"
