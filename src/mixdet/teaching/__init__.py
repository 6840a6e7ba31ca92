"""Teachers: networks that follow the student."""

from mixdet.teaching.ema import EMATeacher

__all__ = ["EMATeacher"]
