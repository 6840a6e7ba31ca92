"""The schema of mixing: two images that become one, and tiles that change places."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from mixdet.recipes.section import Choice, Count, Positive, Section, Text, Unit

MixPreset = Literal["lossmix", "union", "noise", "half", "swapped", "cutmix", "mosaic"]


class BetaLam(Choice):
    """lam ~ Beta(alpha, alpha): 1 is uniform, below 1 mostly one image, above 1 mostly half and half."""

    name: Literal["beta"] = "beta"
    alpha: Positive = 1.0
    """Both parameters of the distribution."""


class UniformLam(Choice):
    """lam ~ U(low, high)."""

    name: Literal["uniform"] = "uniform"
    low: Unit
    """Smallest share of the first image."""
    high: Unit
    """Largest share of the first image."""


class FixedLam(Choice):
    """The same lam for every pair."""

    name: Literal["fixed"] = "fixed"
    value: Unit
    """Share of the first image."""


class MixSection(Section):
    """How two images become one; as it stands, LossMix."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "lossmix": {},
        "union": {"supervision": "union"},
        "noise": {"supervision": "dominant", "lam": {"name": "uniform", "low": 0.8, "high": 1.0}},
        "half": {"supervision": "half"},
        "swapped": {"supervision": "swapped"},
        "cutmix": {"input": "paste"},
        "mosaic": {"input": "mosaic", "supervision": "union", "lam": {"name": "fixed", "value": 1.0}},
    }

    input: Literal["blend", "paste", "mosaic"] = "blend"
    """Pixels: blend (mixup), paste (CutMix) or mosaic (of four images)."""
    supervision: Literal["interpolate", "union", "dominant", "half", "swapped"] = "interpolate"
    """Weight of an object: its image's share (LossMix), 1 (union), 1 in the larger image only (dominant: Noise), or a
    control, 0.5 (half) or the other image's share (swapped)."""
    lam: Annotated[BetaLam | UniformLam | FixedLam, Field(discriminator="name")] = BetaLam()
    """Share of the first image."""
    per: Literal["pair", "batch"] = "pair"
    """One lam for each pair, or one for the batch."""
    pairing: Literal["shuffle", "roll", "reverse", "derangement"] = "shuffle"
    """Who in a shard is mixed with whom."""
    p: Unit = 1.0
    """Chance that a pair is mixed at all."""

    @classmethod
    def expand(cls, text: str) -> dict[str, Any] | None:
        """The keys in which a preset differs from the defaults."""
        keys = cls.presets.get(text)
        return dict(keys) if keys is not None else None


def _mix_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "preset"
    return "MixSection" if isinstance(value, dict | MixSection) else None


MixChoice = Annotated[
    Annotated[MixPreset, Tag("preset")] | Annotated[MixSection, Tag("MixSection")], Discriminator(_mix_kind)
]


class TilesSection(Section):
    """How tiles are mixed and un-mixed (MUM)."""

    group_size: Count = 4
    """N_G: images that swap tiles."""
    num_tiles: Count = 4
    """N_T: tiles along each side."""
    p: Unit = 1.0
    """Chance that a batch is mixed at all."""
    unmix_at: Text = "neck"
    """Un-mixed: neck (FPN levels), backbone (before the FPN), or after a stage of the body, by its name."""
    mode: Literal["aligned", "reference"] = "aligned"
    """Borders on cells of stride 32, exact; or the authors' equal tiles, levels resized where they do not divide."""
