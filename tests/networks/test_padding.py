from __future__ import annotations

import torch

from umfuse.networks.padding import crop, pad


def test_reflects_at_the_last_pixel():
    row = torch.arange(5.0).expand(1, 1, 4, 5)
    assert pad(row, 4, "reflect")[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]


def test_replicates_where_there_is_nothing_left_to_reflect():
    row = torch.arange(2.0).expand(1, 1, 8, 2)
    assert pad(row, 8, "reflect")[0, 0, 0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert pad(row, 4, "replicate")[0, 0, 0].tolist() == [0, 1, 1, 1]


def test_leaves_what_fits_and_comes_back():
    image = torch.rand(2, 3, 8, 12)
    assert torch.equal(pad(image, 4, "reflect"), image)
    padded = pad(image, 5, "replicate")
    assert padded.shape == (2, 3, 10, 15)
    assert torch.equal(crop(padded, 8, 12), image)
