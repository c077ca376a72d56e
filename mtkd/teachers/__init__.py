"""The teachers: models that see EEG and say of every window what the student shall learn."""
