"""The student, and how it learns from teachers."""
