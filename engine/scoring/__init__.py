"""Scoring: the images of a case, and how close an estimate comes to the clean one."""
