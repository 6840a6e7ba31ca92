"""The embedded data: scenes drawn on the fly, the same ones in several styles, so that nothing need be downloaded."""

from mixdet.data.scenes.layout import CLASSES
from mixdet.data.scenes.source import SPLITS, SceneImages, open_scenes, scenes
from mixdet.data.scenes.styles import STYLES

__all__ = ["CLASSES", "SPLITS", "STYLES", "SceneImages", "open_scenes", "scenes"]
