"""What the benchmark measures with."""

from fastnst.benchmark.measurements import photographs
from fastnst.data.files import find_photographs
from fastnst.images import load_rgb


def test_samples_are_written_as_photographs_of_cocos_size():
    with photographs(None, 3) as folder:
        paths = find_photographs(folder)
        assert len(paths) == 3 and all(load_rgb(path).size == (640, 480) for path in paths)
