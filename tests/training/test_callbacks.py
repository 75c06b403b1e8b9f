"""What TensorBoard is given."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fastnst.commands.entry import train


def test_tensorboard_shows_the_run(command, small_training, tmp_path):
    _, out, _ = command(train, *small_training, "trainer.val_check_interval=3")
    events = EventAccumulator(str(tmp_path / out.splitlines()[-2].removeprefix("run: "))).Reload()
    tags = events.Tags()
    layers = ["relu1_2", "relu2_2", "relu3_3", "relu4_3"]
    names = ["total", "content", "style", "palette", "tv", "style/1", *(f"style/{layer}" for layer in layers)]
    expected = {f"{side}/{name}" for side in ("train", "val") for name in names}
    assert expected | {"images_per_second", "lr-Adam", "data/bad_files"} <= set(tags["scalars"])
    assert {"style/small", "photograph | result/0"} <= set(tags["images"])
    assert len(events.Images("photograph | result/0")) >= 2
    assert "config/text_summary" in tags["tensors"]
    assert [e.step for e in events.Scalars("val/total")][:2] == [2, 5]  # Lightning counts from 0
    last = {name: f"{events.Scalars(f'train/{name}')[-1].value:.3f}" for name in ("content", "style", "palette", "tv")}
    assert "6/6" in out and ", ".join(f"{name}={value}" for name, value in last.items()) in out  # the progress bar
