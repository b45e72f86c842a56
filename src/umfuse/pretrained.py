"""Models that are saved, loaded and published: `Umfuse` without its networks' work."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from huggingface_hub import ModelCard, ModelHubMixin, repocard
from torch import Tensor, nn
from typing_extensions import Self, override

from umfuse import card, weights
from umfuse.config import UmfuseConfig

logger = logging.getLogger(__name__)

CARD = "README.md"


class Pretrained(nn.Module, ModelHubMixin):
    """A module whose config and weights are a folder, on disk or on the Hub.

    Args:
        config: Sizes; None means the paper's.
        cpstn: Whether to have a CPSTN; only a model that does not register to what it renders can
            do without.

    Attributes:
        license: Of the weights, such as ``"MIT"``, as it was said when they were saved; None if
            nobody has said one. It is saved with them and goes on to what is trained from them.

    Raises:
        ValueError: If ``cpstn`` is False and the config needs it.
    """

    config: UmfuseConfig
    license: str | None
    _hub_mixin_config: ClassVar[Any] = None

    def __init__(self, config: UmfuseConfig | None = None, *, cpstn: bool = True) -> None:
        super().__init__()
        self.config = config or UmfuseConfig()
        self.license = None
        if self.config.needs_cpstn and not cpstn:
            raise ValueError("a model with fixed='pseudo-infrared' needs its CPSTN")

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the networks, but keeps them in float32: called by `to`, `half`, `double`, ..."""
        dtype = fn(torch.empty(0, dtype=torch.float32)).dtype
        if dtype != torch.float32:
            raise TypeError(
                f"the weights stay in float32, not {dtype}: set model.precision = 'bfloat16' and "
                "inference runs its convolutions in bfloat16"
            )
        return super()._apply(fn, recurse)

    @override
    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Writes a folder that `from_pretrained` loads, with a model card.

        Args:
            save_directory: Made if missing. Weights in it are replaced; the text of its card stays.
            config: Not used: the model has one.
            repo_id: As in huggingface_hub's `ModelHubMixin`, like the three below.
            push_to_hub: Publish the weights as well.
            model_card_kwargs: What the card says of the weights: ``data``, ``recipe``, ``scores``.
            **push_to_hub_kwargs: For `push_to_hub`.

        Raises:
            WeightsError: If this model has no CPSTN, and the folder has that of other weights.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_pretrained(folder)  # the mixin's way would remove the old config first
        if (folder / CARD).is_file():
            self._correct_card(folder / CARD)
        else:
            self.generate_model_card(**(model_card_kwargs or {})).save(folder / CARD)
        if not push_to_hub:
            return None
        return self.push_to_hub(
            repo_id or folder.name, model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs
        )

    @override
    def generate_model_card(self, **kwargs: Any) -> ModelCard:
        """Returns the card of these weights, with their licence if one is known.

        Args:
            **kwargs: What else is known of them: ``data``, ``recipe``, ``scores``.
        """
        return card.new(card.About(self.license, **kwargs))

    def _correct_card(self, path: Path) -> None:
        """Gives a card that was there already the licence of these weights, or none."""
        load = cast("Callable[[Path], dict[str, Any] | None]", repocard.metadata_load)
        save = cast("Callable[[Path, dict[str, Any]], None]", repocard.metadata_save)
        old = load(path) or {}
        new = {key: value for key, value in old.items() if key != "license"}
        new |= self._license_of_card()
        if new != old:
            logger.warning(
                "%s gave the licence as %s, these weights as %s (model.license): it is corrected",
                path,
                old.get("license"),
                self.license,
            )
            save(path, new)

    def _license_of_card(self) -> dict[str, str]:
        return {} if self.license is None else {"license": self.license.lower()}

    @override
    def _save_pretrained(self, save_directory: Path) -> None:
        version = importlib.metadata.version("umfuse")
        metadata = {"library": "umfuse", "library_version": version}
        if self.license is not None:
            metadata["license"] = self.license
        weights.write(save_directory, self.config, self.state_dict(), metadata)

    @classmethod
    @override
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        cpstn: bool | None = None,
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

        Args:
            pretrained_model_name_or_path: ``source``.
            cpstn: Whether to load CPSTN. None does where the model registers to what it renders;
                others need it for `render` and for training it.
            force_download: Fetch again what is in the cache.
            token: Access token of the Hub.
            cache_dir: Cache of the Hub.
            local_files_only: Never use the network.
            revision: Branch, tag or commit of a Hub repository.
            **model_kwargs: None: the sizes are those of the weights.

        Raises:
            WeightsError: If the weights cannot be found, fetched, trusted or used.
            ValueError: If ``cpstn`` is False and the model needs it.
            TypeError: If further arguments are given.
        """
        if model_kwargs:
            raise TypeError(f"from_pretrained takes no {', '.join(model_kwargs)}")
        folder = weights.locate(
            pretrained_model_name_or_path,
            cpstn=cpstn,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        stored = weights.read(folder, cpstn=cpstn)
        try:
            model = cls(stored.config, cpstn=stored.config.needs_cpstn or cpstn is True)
        except (RuntimeError, TypeError, ValueError) as error:
            raise weights.misfit(folder, error) from error
        if wrong := weights.differences(stored.state, model.state_dict()):
            raise weights.misfit(folder, wrong)
        model.load_state_dict(stored.state)
        model.license = stored.license
        return model.eval()
