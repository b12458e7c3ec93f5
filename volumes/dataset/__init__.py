"""Datasets: the cases of a folder, their split, and the store of their voxels."""

from volumes.dataset.cases import Case, find_cases
from volumes.dataset.folder_listing import case_name
from volumes.dataset.split import Split

__all__ = ["Case", "Split", "case_name", "find_cases"]
