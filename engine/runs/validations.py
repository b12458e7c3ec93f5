"""Validations: the scores that a run has recorded."""

from __future__ import annotations
