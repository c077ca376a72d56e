"""Searches of the student's settings with Ray Tune; the only folder that imports ray."""
