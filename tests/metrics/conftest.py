import os

import pictures
import pytest

REAL = [
    pytest.param(
        (where, index),
        marks=[
            pytest.mark.data,
            pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA"),
        ],
        id=f"{where}-{index}",
    )
    for where, index in (("test/roadscene", 3), ("test/roadscene", 30), ("test/tno", 7))
]


@pytest.fixture(params=["rendered", *REAL])
def triple(request):
    """A fused image, an infrared and a visible one, large enough for five scales."""
    if request.param == "rendered":
        return pictures.triple(176, 200)
    return pictures.real(*request.param)
