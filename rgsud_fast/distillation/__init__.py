"""Distillation of data: real photographs to compare with, judges, and which pairs of many sets are worth keeping."""
