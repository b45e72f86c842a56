import pytest
import torch
from PIL import Image
from scenes import scene


@pytest.fixture
def pair_folders(tmp_path):
    """Two folders with three rendered pairs: a grey infrared and a colour visible image each."""
    for index, stem in enumerate("abc"):
        for kind, channels in (("ir", 1), ("vis", 3)):
            (tmp_path / kind).mkdir(exist_ok=True)
            image = scene(index, channels=1).expand(1, channels, -1, -1)[0]
            if kind == "vis":
                image = 0.2 + 0.6 * (1 - image) ** 1.5
            pixels = (image.permute(1, 2, 0) * 255).round().byte().squeeze(-1).numpy()
            Image.fromarray(pixels).save(tmp_path / kind / f"{stem}.png")
    return tmp_path / "ir", tmp_path / "vis"


@pytest.fixture
def batch():
    """Two registered views of 80x80 pixels, as a loader collates them."""
    infrared = torch.cat([scene(seed, 80, 80) for seed in (1, 2)])
    visible = (0.2 + 0.6 * (1 - infrared) ** 1.5).expand(-1, 3, -1, -1).contiguous()
    return {"infrared": infrared, "visible": visible, "seed": torch.tensor([3, 4])}
