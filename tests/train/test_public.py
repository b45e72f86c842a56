from umfuse import train


def test_what_a_user_needs_is_named():
    assert sorted(train.__all__, key=str.lower) == [
        "Aligner",
        "CropConfig",
        "Crops",
        "deformation",
        "DeformConfig",
        "fine_tune",
        "fit",
        "PairDataset",
        "protocol",
        "Recipe",
        "RECIPES",
        "TrainConfig",
    ]
    assert all(hasattr(train, name) for name in train.__all__)
