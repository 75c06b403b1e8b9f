"""What the benchmark measures with."""

from fastnst.benchmark.measurements import write_samples
from fastnst.data.files import find_photographs
from fastnst.images import load_rgb


def test_samples_are_written_as_photographs_of_cocos_size(tmp_path):
    paths = find_photographs(write_samples(tmp_path))
    assert len(paths) == 14 and all(load_rgb(path).size == (640, 480) for path in paths)
