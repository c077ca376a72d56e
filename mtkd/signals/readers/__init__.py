"""Readers: each lists the files of a folder with their subjects and reads one into recordings in SI units."""
