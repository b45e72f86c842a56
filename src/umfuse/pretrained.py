"""Models that are saved, loaded and published: `Umfuse` without its networks' work."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any, ClassVar

from huggingface_hub import ModelHubMixin
from torch import nn
from typing_extensions import Self, override

from umfuse import weights
from umfuse.config import UmfuseConfig


class Pretrained(
    nn.Module,
    ModelHubMixin,
    library_name="umfuse",
    pipeline_tag="image-to-image",
    license="mit",
    tags=["image-fusion", "image-registration", "infrared", "thermal", "arxiv:2205.11876"],
):
    """A module whose config and weights are a folder, on disk or on the Hub.

    Args:
        config: Sizes; None means the paper's.
    """

    config: UmfuseConfig
    _hub_mixin_config: ClassVar[Any] = None

    def __init__(self, config: UmfuseConfig | None = None) -> None:
        super().__init__()
        self.config = config or UmfuseConfig()

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        version = importlib.metadata.version("umfuse")
        metadata = {"library": "umfuse", "library_version": version, "license": "mit"}
        weights.write(save_directory, self.config.to_dict(), self.state_dict(), metadata)

    @classmethod
    @override
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Returns the model of a weights name, a folder or a Hub repository, ready for inference.

        The arguments are those of `weights.locate`. Loading is strict: every tensor must be there
        and none may be left over.

        Raises:
            WeightsError: If the weights cannot be found, fetched, trusted or used.
            TypeError: If further arguments are given: the sizes are those of the weights.
        """
        if model_kwargs:
            raise TypeError(f"from_pretrained takes no {', '.join(model_kwargs)}")
        folder = weights.locate(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        config, state = weights.read(folder)
        try:
            model = cls(UmfuseConfig.from_dict(config))
            model.load_state_dict(state)
        except (RuntimeError, TypeError, ValueError) as error:
            raise weights.WeightsError(
                f"the weights in {os.fspath(folder)!r} do not fit this umfuse: {error}"
            ) from error
        return model.eval()
