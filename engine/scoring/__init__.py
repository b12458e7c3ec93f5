"""Scoring: the images of a case, and how close an estimate is to the clean one."""
