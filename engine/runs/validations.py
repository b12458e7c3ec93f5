"""Validations: what a run has noted of its own scores."""

from __future__ import annotations
