"""What the benchmark measures with."""

from fastnst.benchmark import measurements
from fastnst.images import load_rgb


def test_samples_are_of_cocos_size():
    files = [*measurements.samples()]
    assert len(files) == 14 and all(load_rgb(file).size == (640, 480) for file in files)


def test_a_peer_that_is_not_installed_is_said_to_be(monkeypatch):
    monkeypatch.setattr(measurements, "find_spec", lambda name: None)
    decoding = measurements.time_decoding([*measurements.samples()][:1], 32, 1)
    assert decoding[-1]["what"] == "webdataset is not installed" and decoding[-1]["seconds"] is None
    inference = measurements.time_inference(64, 4, 1)
    assert inference[0]["what"] == inference[0]["beside"] == "float32"
