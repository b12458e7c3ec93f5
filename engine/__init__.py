"""The engine: trains networks on CT volumes and applies them."""

from engine import losses, schedules
from engine.recipe import Recipe

__version__ = "0.1.0"

__all__ = ["Recipe", "__version__", "losses", "schedules"]
