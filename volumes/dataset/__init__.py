"""Datasets: the cases of a folder, their split, and the store of their voxels."""

from volumes.dataset.cases import Case, case_name, find_cases
from volumes.dataset.split import Split

__all__ = ["Case", "Split", "case_name", "find_cases"]
