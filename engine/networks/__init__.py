"""Networks: frozen dataclasses with the parameters of the papers as fields.

`build()` returns the Keras model. Tiles depend on `stride` and on the receptive `radius`.
"""

from engine.networks.bias_free_unet import BiasFreeUNet2D
from engine.networks.convnet import ConvNet2D, ConvNet3D
from engine.networks.dncnn import DnCNN
from engine.networks.network import Network
from engine.networks.residual_unet import ResidualUNet2D
from engine.networks.resnet import ResNet2D
from engine.networks.unet import ResPrUNet, UNet2D, UNet3D

__all__ = [
    "BiasFreeUNet2D", "ConvNet2D", "ConvNet3D", "DnCNN", "Network", "ResNet2D", "ResPrUNet",
    "ResidualUNet2D", "UNet2D", "UNet3D",
]  # fmt: skip
