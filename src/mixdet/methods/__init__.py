"""Training methods: one paper, one short file."""

from mixdet.methods.csd import CSD
from mixdet.methods.instant_teaching import InstantTeaching
from mixdet.methods.ismt import ISMT
from mixdet.methods.method import Method
from mixdet.methods.multi_phase import MultiPhase
from mixdet.methods.mum import MUM
from mixdet.methods.stac import STAC
from mixdet.methods.supervised import Supervised
from mixdet.methods.unbiased_teacher import UnbiasedTeacher

METHODS: dict[str, type[Method]] = {
    "supervised": Supervised,
    "csd": CSD,
    "stac": STAC,
    "instant_teaching": InstantTeaching,
    "ismt": ISMT,
    "multi_phase": MultiPhase,
    "unbiased_teacher": UnbiasedTeacher,
    "mum": MUM,
}

__all__ = [
    "CSD",
    "ISMT",
    "METHODS",
    "MUM",
    "STAC",
    "InstantTeaching",
    "Method",
    "MultiPhase",
    "Supervised",
    "UnbiasedTeacher",
]
