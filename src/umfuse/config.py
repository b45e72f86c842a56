"""The sizes of a model, and how they are written to `config.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, cast, get_args

from umfuse.networks import CpstnConfig, DifnConfig, MatcherConfig, MrrnConfig

FORMAT_VERSION = 2
Fixed = Literal["pseudo-infrared", "visible"]


@dataclass(frozen=True)
class UmfuseConfig:
    """Sizes of the three networks and of the grid that registration works on.

    Attributes:
        cpstn: The paper's sizes by default, like the other two.
        mrrn: The paper's network, or a matcher in its place. With three input channels it sees the
            gradient orientation beside the intensity.
        difn: See `DifnConfig`.
        fixed: What the infrared image is registered to: what CPSTN makes of the visible image, or
            its luma.
        working_size: Longer side in pixels of the grid that CPSTN and MRRN run on: visible images
            are reduced to it, or enlarged to at most twice their size, and the field is brought
            back.
        orientation_sigma: Scale in working pixels of the orientation features that MRRN sees.
    """

    cpstn: CpstnConfig = field(default_factory=CpstnConfig)
    mrrn: MrrnConfig | MatcherConfig = field(default_factory=MrrnConfig)
    difn: DifnConfig = field(default_factory=DifnConfig)
    fixed: Fixed = "pseudo-infrared"
    working_size: int = 512
    orientation_sigma: float = 1.5

    def __post_init__(self) -> None:
        if self.mrrn.in_channels not in (1, 3):
            raise ValueError(
                "mrrn.in_channels must be 1 (intensity) or 3 (and gradient orientation), got "
                f"{self.mrrn.in_channels}"
            )
        if self.fixed not in get_args(Fixed):
            choices = ", ".join(get_args(Fixed))
            raise ValueError(f"fixed must be one of {choices}, got {self.fixed!r}")
        if self.working_size < 64:
            raise ValueError(f"working_size must be at least 64, got {self.working_size}")

    @property
    def needs_cpstn(self) -> bool:
        """Whether registration runs CPSTN."""
        return self.fixed == "pseudo-infrared"

    def to_dict(self) -> dict[str, Any]:
        """Returns what `config.json` holds."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UmfuseConfig:
        """Builds the configuration that `to_dict` gave.

        Raises:
            ValueError: If a key is unknown, a value is wrong or the format is of a newer umfuse.
        """
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this umfuse reads format_version {FORMAT_VERSION}, the config has {version!r}: "
                "install the umfuse that wrote it"
            )
        rest = {key: value for key, value in values.items() if key != "format_version"}
        return cast("UmfuseConfig", _build(cls, rest, "config"))


def _build(kind: type, values: dict[str, Any], where: str) -> object:
    """Returns a dataclass from nested dicts, strictly: every key must be a field."""
    parts = {f.name: f.default_factory for f in fields(kind)}
    if unknown := sorted(set(values) - set(parts)):
        raise ValueError(f"{where} has unknown keys {unknown}: install the umfuse that wrote it")
    built = dict[str, Any]()
    for key, value in values.items():
        if isinstance(parts[key], type) and is_dataclass(parts[key]):
            if not isinstance(value, dict):
                raise ValueError(f"{where}.{key} must hold keys, got {value!r}")
            nested = cast("dict[str, Any]", value)
            part = MatcherConfig if nested.get("kind") == "matcher" else cast("type", parts[key])
            value = _build(part, nested, f"{where}.{key}")
        built[key] = tuple(cast("list[Any]", value)) if isinstance(value, list) else value
    return kind(**built)
