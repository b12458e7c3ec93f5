"""Networks: frozen dataclasses whose fields are the papers' numbers.

`build()` gives the Keras model; `stride` and `radius` say how it may be applied in tiles.
"""

from engine.networks.dncnn import DnCNN
from engine.networks.unet import ResPrUNet, UNet2D, UNet3D

Network = UNet3D | UNet2D | ResPrUNet | DnCNN

__all__ = ["DnCNN", "Network", "ResPrUNet", "UNet2D", "UNet3D"]
