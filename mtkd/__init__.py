"""Multi-teacher knowledge distillation from EEG to a student that needs none."""

import os

__version__ = "0.1.0"

# Threads that wait must sleep: where processes share cores (ranks, Ray trials, a neighbour's job), OpenMP's spinning
# ones slowed a student's training down twentyfold. The library reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Unpacking GGUF has a bar that transformers' own switch does not reach. tqdm reads this when it is imported.
os.environ.setdefault("TQDM_DISABLE", "1")
