"""Mixing images and what they teach: LossMix, Union, Noise, their controls, CutMix, mosaic, and MUM's tiles."""

from mixdet.mixing.coefficients import PAIRINGS, Beta, Fixed, Sampler, Uniform
from mixdet.mixing.inputs import INPUTS
from mixdet.mixing.losses import blend_images, interpolate_losses
from mixdet.mixing.mix import PRESETS, Mix
from mixdet.mixing.plan import Mixture
from mixdet.mixing.supervision import RULES, Rule, dominant, half, interpolate, swapped, union
from mixdet.mixing.tiles import TileMix, Tiles, draw_tiles, mix_tiles, tile_borders, unmix_tiles, unmixed_features
from mixdet.mixing.torchvision import from_torchvision, to_torchvision

__all__ = [
    "INPUTS",
    "PAIRINGS",
    "PRESETS",
    "RULES",
    "Beta",
    "Fixed",
    "Mix",
    "Mixture",
    "Rule",
    "Sampler",
    "TileMix",
    "Tiles",
    "Uniform",
    "blend_images",
    "dominant",
    "draw_tiles",
    "from_torchvision",
    "half",
    "interpolate",
    "interpolate_losses",
    "mix_tiles",
    "swapped",
    "tile_borders",
    "to_torchvision",
    "union",
    "unmix_tiles",
    "unmixed_features",
]
