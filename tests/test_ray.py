"""examples/ray_batch.py on a cluster of two workers on this machine."""

import runpy
from pathlib import Path

import pytest

from umfuse import demo

EXAMPLE = Path(__file__).parents[1] / "examples" / "ray_batch.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """Two workers of one processor, beside a head that works nothing."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("pyarrow")
    utils = pytest.importorskip("ray.cluster_utils")
    for name, value in (("RAY_AUTH_MODE", "disabled"), ("RAY_USAGE_STATS_ENABLED", "0")):
        monkeypatch.setenv(name, value)
    memory = 80 * 2**20
    head = {"num_cpus": 0, "object_store_memory": memory, "include_dashboard": False}
    started = utils.Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            started.add_node(num_cpus=1, object_store_memory=memory)
        ray.init(address=started.address, log_to_driver=False)
        yield ray
    finally:
        ray.shutdown()
        started.shutdown()


@pytest.mark.filterwarnings("ignore")  # of Ray's own
def test_two_workers_fuse_what_is_missing(cluster, tmp_path, capsys):
    folders = [tmp_path / name for name in ("ir", "vis", "fused")]
    for folder in folders:
        folder.mkdir()
    for name, night in (("day", False), ("night", True), ("done", False), ("lost", False)):
        pair = demo.pair(night=night)
        (folders[0] / f"{name}.png").write_bytes(pair.infrared.read_bytes())
        (folders[1] / f"{name}.png").write_bytes(pair.visible.read_bytes())
    (folders[0] / "lost.png").write_bytes(b"no image")
    (folders[2] / "done.png").write_bytes(b"kept")
    example = runpy.run_path(str(EXAMPLE))
    example["main"]([*map(str, folders), "2"])
    said = capsys.readouterr().out
    assert "3 of 4 pairs to fuse" in said
    confidences = dict(line.split()[1::-1] for line in said.splitlines()[1:])
    assert min(float(confidences[name]) for name in ("day", "night")) > 0.9
    assert "nan lost infrared: expected an image file" in said
    assert (folders[2] / "done.png").read_bytes() == b"kept"
    assert sorted(path.stem for path in folders[2].iterdir()) == ["day", "done", "night"]
    nodes = {node["NodeID"] for node in cluster.nodes() if node["Resources"].get("CPU")}
    assert len(nodes) == 2
    (folders[0] / "lost.png").unlink()
    (folders[1] / "lost.png").unlink()
    example["main"]([*map(str, folders), "2"])
    assert "0 of 3 pairs to fuse" in capsys.readouterr().out


def test_what_failed_is_told_first():
    pytest.importorskip("ray")
    told = runpy.run_path(str(EXAMPLE))["worst_first"]
    nan = float("nan")
    rows = [
        {"name": name, "confidence": confidence, "error": "" if confidence >= 0 else "no image"}
        for name, confidence in (("a", 1.0), ("b", nan), ("c", 0.9), ("d", nan), ("e", 0.2))
    ]
    assert [row["name"] for row in told(rows)] == ["b", "d", "e", "c", "a"]
