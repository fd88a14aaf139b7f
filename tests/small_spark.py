"""Spark for tables of a few dozen rows: as the profile tiny has it."""

from pipelines import profile

SPARK = profile.load("tiny").sequences.spark
